"""Predictions and scores: every language of every reported task, retrieval, XTREME's submission
files.
"""
