"""adapters_xtl: intermediate tasks as stackable adapters on a frozen multilingual encoder.

`import adapters_xtl as xtl; model = xtl.load("runs/xnli/…"); model.predict([…])`: see
`adapters_xtl.predictor`.
"""

from __future__ import annotations

import logging
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["__version__", "load"]

try:
    __version__ = version("adapters-xtl")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"


# said when bitsandbytes is imported, which peft and adapters do at any number of bits: a kernel
# that nobody asked for
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: "gemm_4bit" not in record.getMessage()
)


def __getattr__(name: str) -> Any:
    if name == "load":  # what it needs costs seconds: imported when it is asked for
        from adapters_xtl.predictor import load

        return load
    raise AttributeError(f"module 'adapters_xtl' has no attribute '{name}'")
