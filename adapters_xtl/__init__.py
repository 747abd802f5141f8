"""adapters_xtl: intermediate tasks as stackable adapters on a frozen multilingual encoder.

>>> import adapters_xtl as xtl
>>> run = xtl.recipe("mnli")                        # trains, or finds the finished run
>>> run.table()                                    # scores; a notebook renders them
>>> model = xtl.load(run)
>>> model.predict([("The train was cancelled.", "No train went.")])
>>> child = xtl.recipe("xnli", on=run)             # another task on top of it
>>> xtl.push(child, "file:hub", with_parents=True)

The names below are the public interface; everything else is private and may change. What they need
costs seconds and is imported when they are first used.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from typing import TYPE_CHECKING, Any

from adapters_xtl.base.fetched_code import keep_out_fetched_code as _keep_out_fetched_code

if TYPE_CHECKING:
    from adapters_xtl.base.errors import (
        DataError,
        MismatchError,
        RequestError,
        RunError,
        XtlError,
    )
    from adapters_xtl.cli.python_api import (
        PulledBundle,
        PushedBundle,
        Run,
        evaluate,
        pull,
        push,
        recipe,
    )
    from adapters_xtl.cli.python_study import StudyResult, study
    from adapters_xtl.predictor import Predictor, load

    __version__: str

__all__ = [
    "DataError",
    "MismatchError",
    "Predictor",
    "PulledBundle",
    "PushedBundle",
    "RequestError",
    "Run",
    "RunError",
    "StudyResult",
    "XtlError",
    "__version__",
    "evaluate",
    "load",
    "pull",
    "push",
    "recipe",
    "study",
]

# name → the file that holds it
_HOMES = {
    **dict.fromkeys(("load", "Predictor"), "adapters_xtl.predictor"),
    **dict.fromkeys(
        ("recipe", "evaluate", "push", "pull", "Run", "PushedBundle", "PulledBundle"),
        "adapters_xtl.cli.python_api",
    ),
    **dict.fromkeys(("study", "StudyResult"), "adapters_xtl.cli.python_study"),
    **dict.fromkeys(
        ("XtlError", "RunError", "RequestError", "DataError", "MismatchError"),
        "adapters_xtl.base.errors",
    ),
}

_keep_out_fetched_code()
# said when bitsandbytes is imported, which peft and adapters do at any number of bits: that it got
# no kernel from the hub
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: "gemm_4bit" not in record.getMessage()
)

# said by tqdm, which the libraries import, in a notebook without ipywidgets; nothing here needs it
warnings.filterwarnings("ignore", message="IProgress not found")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("adapters-xtl")
        except PackageNotFoundError:  # a source tree that was never installed
            return "0.0.0"
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'adapters_xtl' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
