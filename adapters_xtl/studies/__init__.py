"""One file a study: a question over the grid, with its axes, contrasts, tables, figures, answer.

A file of this folder without a leading underscore is a study, and sets STUDY. What other wings use:

load   `load(name)`: the study of that name
names  the names of all studies
"""

from __future__ import annotations

import importlib

from adapters_xtl.base.errors import RequestError, clipped, nearest
from adapters_xtl.base.files import public_files
from adapters_xtl.grid.study import Study

__all__ = ["load", "names"]


def names() -> tuple[str, ...]:
    """Every study's name: that of its file, with hyphens."""
    return tuple(sorted(stem.replace("_", "-") for stem in public_files(*__path__)))


def load(name: str) -> Study:
    """The study of that name. RequestError names the nearest where there is none."""
    if name not in names():
        raise RequestError(f"unknown study '{clipped(name)}'{nearest(name, names())}")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    study: Study = module.STUDY
    if not isinstance(study, Study):
        raise TypeError(f"{module.__file__}: STUDY is no instance of Study")
    study.name = name
    return study
