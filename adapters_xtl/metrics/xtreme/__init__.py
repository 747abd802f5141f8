"""XTREME's benchmark: its averages over languages, tasks and groups, and its files."""
