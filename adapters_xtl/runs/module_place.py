"""Where the module of a finished run lies: in the run itself, or in the one that it scored."""

from __future__ import annotations

from pathlib import Path

from adapters_xtl.base.errors import RequestError
from adapters_xtl.runs.store import is_finished
from adapters_xtl.runs.stored_runs import read_run

__all__ = ["module_place"]


def module_place(run: Path, named: str = "") -> str:
    """What `load`, `--on` and `push` take for the module of the run in this directory: the
    directory of the training that made it, or `named` where an evaluation scored a module that is
    not of this store (a bundle).

    RequestError for an evaluation of the bare backbone.
    """
    spec = read_run(run).spec
    if spec.kind == "training":
        return str(run)
    if spec.module is None:
        raise RequestError(f"{run}: an evaluation of the bare backbone, which has no module")
    beside = run.parent.parent / spec.module.task / spec.module.id
    return str(beside) if is_finished(beside) else named or spec.module.id
