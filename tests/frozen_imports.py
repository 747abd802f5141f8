"""Imported last by the process that the tests' commands are forked from: the garbage collector of
the forked ones passes over what the libraries hold, which costs a third of a second each time.
"""

from __future__ import annotations

import gc

gc.collect()
gc.freeze()
