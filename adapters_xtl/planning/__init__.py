"""A request turned into runs with ids, its stack and its memory plan, before a model is loaded."""
