"""One fit() for every method and format; checkpoints, resuming, what watches it."""
