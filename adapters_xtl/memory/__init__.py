"""Memory of a training, predicted from the backbone's config alone, and the fastest way that fits a
budget.
"""
