"""`adapters_xtl.study`: the command `xtl study` as a Python function."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xtl.cli.python_api import show_line

if TYPE_CHECKING:
    from adapters_xtl.grid.results import Table

__all__ = ["StudyResult", "study"]


@dataclass(frozen=True)
class StudyResult:
    """A study that was carried out: the answer of `study`. A notebook shows its tables and answer.

    path    its directory: study.json, and the tables and figures as files
    record  the content of study.json: cells, rows, contrasts, tables, what failed
    """

    path: Path
    record: Mapping[str, Any] = field(repr=False)

    @property
    def tables(self) -> Mapping[str, Table]:
        """Name → table, as data: lines of entries with value, interval and verdict."""
        from adapters_xtl.base.typed_json import from_json
        from adapters_xtl.grid.results import Table

        return {table["name"]: from_json(Table, table) for table in self.record["tables"]}

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The runs that failed, each with its error; the others are in the tables."""
        return list(self.record["failed"])

    def answer(self) -> str:
        """What the study says, in at most ten lines."""
        from adapters_xtl.pages.study_views import answer_lines

        return "\n".join(answer_lines(self.record))

    def _repr_mimebundle_(self, include: Any, exclude: Any, **options: Any) -> dict[str, str]:
        from adapters_xtl.pages.study_views import mimebundle

        return mimebundle(self.record)


def study(
    name: str | os.PathLike[str],
    *,
    settings: Mapping[str, Any] | None = None,
    engine: str = "local",
    jobs: int = 1,
    engine_settings: Mapping[str, str] | None = None,
    retry_failed: bool = False,
    runs: str | os.PathLike[str] = "runs",
    out: str | os.PathLike[str] | None = None,
    report_to: str = "",
) -> StudyResult:
    """Carries out a study, or finds its finished runs, and returns its tables and answer.

    name      a study ("transfer"), a study file that comes with the package ("smoke"), or the path
              of a .toml file
    settings  keys of the study file, by their dotted names: `{"on": ["none", "mnli"],
              "train.max_steps": 20}`
    engine    "local", "ray" or "slurm"; `jobs` runs at a time
    out       the study's directory; by default one under `runs`/studies
    report_to trackers that follow the runs: "tensorboard", "wandb", "trackio", "mlflow"

    Its figures need matplotlib (the extra `plots`). Raises RequestError for a request that is
    wrong, RunError where no run ended well; runs that
    failed while others ended well are in `StudyResult.failed`.
    """
    import json

    from adapters_xtl.cli.commands import study as command

    def text(value: Any) -> str:
        if isinstance(value, (list, tuple)):
            return json.dumps([*value])
        return value if isinstance(value, str) else json.dumps(value)

    payload, _ = command.study(
        os.fspath(name),
        set_=[f"{key}={text(value)}" for key, value in (settings or {}).items()],
        engine=engine,
        jobs=jobs,
        engine_options=dict(engine_settings or {}),
        retry_failed=retry_failed,
        preview_only=False,
        runs=os.fspath(runs),
        report_to=report_to,
        out=None if out is None else os.fspath(out),
        command=f"adapters_xtl.study({os.fspath(name)!r})",
        notify=show_line,
    )
    return StudyResult(Path(payload["path"]), {k: v for k, v in payload.items() if k != "path"})
