"""Analyses of finished runs in the store: `<runs>/analyses/<id>/`, finished by its manifest.

An analysis is computed of the encoder that a run left, once for all studies that ask for it. Like a
run it is written aside under a lock and renamed last (see `runs.store`), but it has no scores of a
task, and no run stands on it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapters_xtl.base.errors import MismatchError, RequestError
from adapters_xtl.runs.request import Plan
from adapters_xtl.runs.store import ANALYSES, RUN_ID, Store, verify

__all__ = [
    "IDENTITY",
    "RECORD",
    "damaged_analyses",
    "encoder_identity",
    "intact_analysis",
]

RECORD = "analysis.json"
IDENTITY = "identity.json"  # everything that decides the record; its digest is the id


def encoder_identity(plan: Plan) -> dict[str, Any]:
    """What names the weights of the encoder that a plan scores: the digest of its module's run, the
    id under which a module came from elsewhere, or the bare backbone.
    """
    module = plan.target
    if module is not None:
        return {"module": module.run.digest if module.stored is None else module.id}
    return {"backbone": plan.backbone.fingerprint, "bits": plan.bits, "dtype": plan.dtype}


def intact_analysis(store: Store, analysis_id: str) -> Path | None:
    """The directory of a finished analysis whose files are as they were written; None where the
    store has none. MismatchError where one of its files differs from its manifest.
    """
    folder = store.find(ANALYSES, analysis_id)
    if folder is not None:
        try:
            verify(folder)
        except MismatchError as error:
            raise MismatchError(
                f"{error}; delete {folder} to have the analysis computed again"
            ) from error
    return folder


def damaged_analyses(store: Store) -> dict[Path, str]:
    """The directories of finished analyses that are not as they were written → what is wrong."""
    damaged = {}
    for path in sorted((store.root / ANALYSES).glob("*")):
        if RUN_ID.fullmatch(path.name):
            try:
                verify(path)
            except RequestError as error:  # MismatchError is one
                damaged[path] = str(error)
    return damaged
