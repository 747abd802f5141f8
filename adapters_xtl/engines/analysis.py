"""What a study computes of finished runs beside their scores, and how an engine computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from adapters_xtl.base.errors import RunError, XtlError, out_of_memory
from adapters_xtl.base.files import digest, write_json
from adapters_xtl.planning.lookups import Lookups
from adapters_xtl.runs.analyses import IDENTITY, RECORD, intact_analysis
from adapters_xtl.runs.records import write_record
from adapters_xtl.runs.request import Plan
from adapters_xtl.runs.store import ANALYSES, WORK, Store

if TYPE_CHECKING:
    from adapters_xtl.models.context import Context
    from adapters_xtl.models.network import Host

__all__ = ["Analysis", "analysis_id", "compute", "read"]


class Analysis(Protocol):
    """Something that is computed of the encoder that a run leaves, and kept in the store.

    It is hashable and can be pickled: it is part of a cell and of a job.
    """

    def identity(self, plan: Plan, lookups: Lookups) -> Mapping[str, Any]:
        """JSON of everything that decides the result: the encoder, the rows, the settings. Nothing
        is loaded or read. RequestError where the result cannot be computed.
        """
        ...

    def compute(self, context: Context, lookups: Lookups, work: Path) -> object:
        """The result, as a dataclass that `runs.records` writes. `work`: a directory that the next
        call finds again where this one is interrupted.
        """
        ...

    def read(self, path: Path) -> Any:
        """The result as it was written. MismatchError where the file holds none."""
        ...


def analysis_id(analysis: Analysis, plan: Plan, lookups: Lookups) -> str:
    """12 hex digits of the sha256 of what decides the analysis of what a plan scores."""
    return digest(analysis.identity(plan, lookups))[:12]


def read(analysis: Analysis, plan: Plan, lookups: Lookups, store: Store) -> Any:
    """The finished result in the store; None where it has none. MismatchError where it was damaged
    since.
    """
    folder = intact_analysis(store, analysis_id(analysis, plan, lookups))
    return None if folder is None else analysis.read(folder / RECORD)


def compute(
    analysis: Analysis,
    plan: Plan,
    lookups: Lookups,
    store: Store,
    host: Host,
    notify: Callable[[str], None],
) -> None:
    """Computes an analysis and commits it, unless the store has it already. The plan's modules must
    be in the store.

    After an interruption or too little memory its partial directory stays, and the next call goes
    on from there; after any other error that is no XtlError it is moved under failed/.
    """
    from adapters_xtl.models.context import Context  # imports torch

    identity = analysis.identity(plan, lookups)
    key = digest(identity)[:12]
    with store.work(ANALYSES, key, notify) as run:
        if run.finished is not None:
            return
        try:
            record = analysis.compute(
                Context(plan, store, host, notify), lookups, run.partial / WORK
            )
        except XtlError:
            raise
        except Exception as error:
            first_line = (str(error).strip().splitlines() or [""])[0][:200]
            if out_of_memory(error):
                raise RunError(f"analysis {key}: out of memory ({first_line})") from error
            kept = store.fail(ANALYSES, key, f"{type(error).__name__}: {error}")
            raise RunError(
                f"analysis {key} failed: {type(error).__name__}: {first_line} (kept in {kept})"
            ) from error
        write_json(run.partial / IDENTITY, dict(identity))
        write_record(run.partial / RECORD, record)
        store.commit(ANALYSES, key)
