"""The memory that a training needs, predicted from the backbone's config, and how to fit a budget.

`activations` counts what autograd keeps for the backward pass, `peak` adds weights, gradients and
optimizer states and picks the fastest way of training that stays within the budget.
"""
