"""One `fit()` for every method and format: batches, checkpoints, resuming, progress and cost."""
