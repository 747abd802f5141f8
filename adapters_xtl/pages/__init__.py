"""Tables and plots, made only from the records that runs and studies wrote.

`tables` prints runs and scores, `comparison_tables` and `plots` show a comparison of methods.
"""
