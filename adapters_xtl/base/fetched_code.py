"""Code that a library would fetch from a hub and run when it is imported: it is kept out.

Where the package `kernels` is installed and the CPU has AVX512-BF16, importing bitsandbytes 0.50
(which peft and adapters do at any number of bits) fetches a compiled product for 4-bit weights from
a repository of the hub. Nobody asked for it, nothing records it, and with it the same run has other
bytes. `kernels` cannot be found while that one file of bitsandbytes is imported; whoever else uses
it in this process is not disturbed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

__all__ = ["keep_out_fetched_code"]

FETCHER = "bitsandbytes.backends.cpu.ops"
PACKAGE = "kernels"  # its `get_kernel` fetches and imports
_ABSENT = object()


class _LoaderWithoutKernels(Loader):
    """Imports a file by its own loader while `kernels` cannot be found."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        modules: dict[str, object] = sys.modules  # type: ignore[assignment]  # None: not to be found
        before = modules.get(PACKAGE, _ABSENT)
        modules[PACKAGE] = None
        try:
            self.loader.exec_module(module)
        finally:
            del modules[PACKAGE]
            if before is not _ABSENT:
                modules[PACKAGE] = before


class _Finder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != FETCHER:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _LoaderWithoutKernels(spec.loader)
        return spec


def keep_out_fetched_code() -> None:
    """From now on, importing bitsandbytes fetches no code; a second call changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
