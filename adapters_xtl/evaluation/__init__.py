"""Predictions and scores of a trained network, language by language, and XTREME's submission files.

`predict` batches examples into predictions, `scoring` makes metrics of predictions without a
model, `languages` does both for every language of a task, `xtreme_export` writes the benchmark's
file layout.
"""
