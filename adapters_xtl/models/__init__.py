"""One network out of encoder, stack and heads: built, asserted, saved, loaded; one backbone shared
by many stacks.
"""
