"""adapters_xtl: intermediate tasks as stackable adapters on a frozen multilingual encoder."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]

try:
    __version__ = version("adapters-xtl")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"
