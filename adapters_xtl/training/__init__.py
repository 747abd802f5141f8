"""One `fit()` for every method and format: batches, checkpoints, resuming, progress and cost.

`training` says what a training is and what it came to; `batches` fixes which items make which
optimizer step; `optimizer` holds AdamW and its learning-rate schedule; `checkpoints` holds what a
training is resumed from, `micro_batches` what is done when memory runs out, `progress` what the
user sees, `tracking` the experiment trackers that follow it.
"""
