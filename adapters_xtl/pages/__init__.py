"""Tables, plots and the HTML page, made only from the records that runs and studies wrote.

`tables` prints runs and scores, `comparison_tables` and `plots` show a comparison of methods,
`study_tables` and `figures` give a study's tables and figures in every form, `page` puts studies
and runs into one HTML file.
"""
