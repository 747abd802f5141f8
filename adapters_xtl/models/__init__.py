"""One network out of encoder, stack of modules and heads: built, checked, saved and loaded.

`network` assembles and checks it, and lets all stacks of a process share one backbone in memory;
`assembly` does so for a planned module; `context` is what every step of an execution shares.
"""
