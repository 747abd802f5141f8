"""The grid of a study: cells planned once, tuned alike, carried out, summed up, contrasted.

What other wings use:

results  `Table`, `Figure`: what a study shows, as data that the pages wing draws
"""
