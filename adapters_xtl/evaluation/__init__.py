"""Predictions and scores of a trained network, language by language, and XTREME's submission files.

rows             reads the rows that a run trains on and reports
score_languages  predicts, keeps and scores what a run reports
predict          examples → predictions through a trained head
retrieval        sentences → vectors, which hidden state is taken, the cache of vectors
scoring          predictions → metrics, without a model
inputs           what a person gives → examples
xtreme_export    a run's predictions as XTREME's files
"""
