"""The grid of a study: cells planned once, tuned alike, carried out, summed up, contrasted.

What other wings use:

study       `Study`: the base of every study; `Contrast`, `Answer`
study_file  `read_study_file`, `make_grid`: from a TOML file to a grid
cells       `Grid`, `Cell`, `Axis`: what is asked, as frozen data
cell_plans  `CellPlans`: the plan of every cell
preview     `preview`: the runs to come, for --dry-run
carry_out   `carry_out`: from plans through an engine to the study's record
record      the record; its id and title
results     `Table`, `Figure`: what a study shows, as data that the pages wing draws
"""
