"""adapters_xtl: intermediate tasks as stackable adapters on a frozen multilingual encoder."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["__version__", "load"]

try:
    __version__ = version("adapters-xtl")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"


def __getattr__(name: str) -> Any:
    if name == "load":  # torch is imported only when a module is wanted
        from adapters_xtl.model import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
