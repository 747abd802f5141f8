"""Imported last by the process that the tests' commands are forked from: what each of them would
take seconds to load or to look through, once.

The tokenizer is loaded but not used: using it starts threads, which do not survive a fork. The
garbage collector of the forked ones passes over what the libraries hold.
"""

from __future__ import annotations

import gc

from adapters_xtl.backbones import loading
from adapters_xtl.backbones.registry import NAMED
from adapters_xtl.base.files import cache_dir

if (cache_dir() / "mini" / "complete.json").is_file():
    loading.tokenizer(NAMED["tiny"])
gc.collect()
gc.freeze()
