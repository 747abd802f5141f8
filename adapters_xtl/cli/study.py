"""`xtl study`: one question over a grid of runs."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from adapters_xtl.cli.flags import Json, ReportTo, Runs, answer, say, whole_number_for

__all__ = ["study"]


def study(
    name: Annotated[
        str, typer.Argument(help="A study, a study file (FILE.toml), list, or answer.")
    ],
    which: Annotated[str, typer.Argument(help="With answer: the study, or its directory.")] = "",
    set_: Annotated[
        list[str],
        typer.Option(
            "--set", help="KEY=VALUE of the study file: on=none,mnli, train.max_steps=20."
        ),
    ] = [],
    engine: Annotated[str, typer.Option("--engine", help="local, ray or slurm.")] = "local",
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs",
            metavar="N",
            parser=whole_number_for("--jobs", 0),
            help="Runs at a time; 0: one here, all that fit on a cluster.",
        ),
    ] = 0,
    engine_set: Annotated[
        list[str], typer.Option("--engine-set", help="key=value for the engine: partition=gpu.")
    ] = [],
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed before.")
    ] = False,
    runs: Runs = "runs",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the runs and what they will take; run nothing.")
    ] = False,
    out: Annotated[
        str | None, typer.Option("-o", "--out", help="Directory of the record, tables and figures.")
    ] = None,
    report_to: ReportTo = "",
    as_json: Json = False,
) -> None:
    """Carry out a study: a grid of runs, its contrasts, tables and figures."""
    from adapters_xtl.base.errors import RequestError
    from adapters_xtl.cli.commands import study as command

    if name == "list":
        if which:
            raise RequestError(f"xtl study list {which}: list takes no study")
        answer(as_json, command.listed_studies)
        return
    if name == "answer":
        if not which:
            raise RequestError("xtl study answer: which study? Its name or its directory")
        answer(as_json, lambda: command.answer_of(which, runs))
        return
    if which:
        raise RequestError(f"xtl study {name} {which}: takes one study; settings come by --set")
    options: dict[str, str] = {}
    for text in engine_set:
        key, equals, value = text.partition("=")
        if not equals or key in options:
            wrong = "is given twice" if equals else "expected key=value"
            raise RequestError(f"--engine-set {text}: {wrong}")
        options[key] = value
    typed = shlex.join(["xtl", *sys.argv[1:]])
    payload = answer(
        as_json,
        lambda: command.study(
            name,
            set_=set_,
            engine=engine,
            jobs=jobs,
            engine_options=options,
            retry_failed=retry_failed,
            preview_only=dry_run,
            runs=runs,
            out=out,
            report_to=report_to,
            command=typed,
            notify=say,
        ),
    )
    if payload.get("failed"):
        raise typer.Exit(1)
