"""`xtl merge` and `xtl export`: modules and results in forms that load without adapters_xtl."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapters_xtl.cli.flags import AllowMismatch, Backbone, Json, Runs, answer, say
from adapters_xtl.cli.modules import Module
from adapters_xtl.cli.typer_command import Commands

__all__ = ["app", "merge"]

app = Commands(
    no_args_is_help=True,
    help="Write modules as ONNX, and scores as the JSON of mteb and Every Eval Ever.",
)

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="A new directory.")]
Task = Annotated[
    str,
    typer.Option(
        "--task",
        help="A task its head can answer; tatoeba for sentence vectors; default: its own.",
    ),
]


def merge(
    module: Module,
    directory: Directory,
    task: Task = "",
    bits: Annotated[
        str, typer.Option("--bits", help="32 or 16; default: those it was trained on.")
    ] = "auto",
    backbone: Backbone = None,
    runs: Runs = "runs",
    allow_mismatch: AllowMismatch = False,
    as_json: Json = False,
) -> None:
    """Fold a LoRA MODULE's stack into one plain checkpoint that transformers loads by itself."""
    from adapters_xtl.cli.commands import export as command

    answer(
        as_json,
        lambda: command.merge(
            module,
            directory,
            task=task,
            bits=bits,
            backbone=backbone,
            runs=runs,
            allow_mismatch=allow_mismatch,
            notify=say,
        ),
    )


@app.command()
def onnx(
    module: Module,
    directory: Directory,
    task: Task = "",
    backbone: Backbone = None,
    runs: Runs = "runs",
    allow_mismatch: AllowMismatch = False,
    as_json: Json = False,
) -> None:
    """Write a MODULE's stack and head as an ONNX graph, checked against onnxruntime."""
    from adapters_xtl.cli.commands import export as command

    answer(
        as_json,
        lambda: command.onnx(
            module,
            directory,
            task=task,
            backbone=backbone,
            runs=runs,
            allow_mismatch=allow_mismatch,
            notify=say,
        ),
    )


@app.command()
def results(
    names: Annotated[list[str], typer.Argument(metavar="RUN…", help="Run directories or run ids.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="A new directory.")],
    organisation: Annotated[
        str, typer.Option("--organisation", help="Who provides the results.")
    ] = "not stated",
    runs: Runs = "runs",
    as_json: Json = False,
) -> None:
    """Write the scores of RUNs in the JSON of mteb and of Every Eval Ever."""
    from adapters_xtl.cli.commands import export as command

    answer(
        as_json,
        lambda: command.results(names, out, organisation=organisation, runs=runs, notify=say),
    )
