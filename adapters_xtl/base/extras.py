"""Packages that a plain recipe does not need: each comes with an extra of this package."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from adapters_xtl.base.errors import RequestError

__all__ = ["explain_lacking", "installed", "need"]

# import name → (the package's own name, the extra of pyproject.toml that brings it)
EXTRAS = {
    "bitsandbytes": ("bitsandbytes", "quantised"),
    "evaluate": ("evaluate", "evaluate"),
    "faiss": ("faiss-cpu", "retrieval"),
    "google.protobuf": ("protobuf", "sentencepiece"),
    "matplotlib": ("matplotlib", "plots"),
    "onnx": ("onnx", "onnx"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "onnxscript": ("onnxscript", "onnx"),
    "sentencepiece": ("sentencepiece", "sentencepiece"),
}


def installed(name: str) -> bool:
    """Whether the package that is imported as `name` is here; it is not imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of its parent
        return False


def explain_lacking(what: str, names: Iterable[str]) -> str:
    """One line that says which of the packages imported as `names` are missing for `what`, and how
    they are installed; "" where all are here.
    """
    lacking = [EXTRAS[name] for name in names if not installed(name)]
    if not lacking:
        return ""
    packages = " and ".join(package for package, _ in lacking)
    extras = ",".join(dict.fromkeys(extra for _, extra in lacking))
    return f"{what} needs {packages}: pip install 'adapters-xtl[{extras}]'"


def need(what: str, *names: str) -> None:
    """RequestError where `what` lacks one of the packages imported as `names`."""
    if message := explain_lacking(what, names):
        raise RequestError(message)
