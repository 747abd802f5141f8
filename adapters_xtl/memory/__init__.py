"""The memory that a training needs, predicted from the backbone's config, and how to fit a budget.

`activations` counts what autograd keeps for the backward pass; `peak` holds the formula: weights,
gradients and optimizer states beside those activations, at the largest moment of a step; and picks
the fastest way of training (micro-batch, gradient checkpointing) that stays within the budget.

It is a wing of its own because it is arithmetic on sizes: it loads no model, it is imported by
planning and by studies, and it can be held against counted tensors by itself. Which trainings a
request comes to, and their sizes, stands in `planning/memory_jobs.py` and
`planning/memory_plan.py`; what the process really took, in `base/process_memory.py`.
"""
