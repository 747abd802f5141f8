"""A request becomes runs with ids: the stack, what the store has, the memory plan; no model is
loaded.
"""
