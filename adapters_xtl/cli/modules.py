"""`xtl evaluate`, `xtl predict`, `xtl score`: what is done with a trained module."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapters_xtl.base.errors import Problems
from adapters_xtl.cli.flags import (
    AllowMismatch,
    Backbone,
    Data,
    Device,
    Force,
    Json,
    Label,
    Languages,
    Runs,
    Split,
    Strict,
    TestFile,
    TextColumns,
    answer,
    say,
    whole_number_for,
)

__all__ = ["evaluate", "predict", "score"]

Module = Annotated[
    str, typer.Argument(help="A run directory, a run id, a bundle directory or a hub id.")
]
TaskName = Annotated[
    str,
    typer.Option("--task", help="A task its head can answer, bucc or tatoeba; default: its own."),
]


def evaluate(
    module: Module,
    task: TaskName = "",
    data: Data = None,
    test_file: TestFile = [],
    text_columns: TextColumns = "",
    label: Label = "",
    languages: Languages = None,
    split: Split = None,
    backbone: Backbone = None,
    device: Device = "auto",
    set_: Annotated[
        list[str], typer.Option("--set", help="eval.max_examples=N: so many rows a language.")
    ] = [],
    runs: Runs = "runs",
    layer: Annotated[
        str, typer.Option("--layer", help="bucc, tatoeba: hidden state that is pooled, or all.")
    ] = "",
    export: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--export", metavar="xtreme DIR", help="Write the predictions in XTREME's layout."
        ),
    ] = None,
    strict: Strict = False,
    allow_mismatch: AllowMismatch = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Score a trained MODULE on a task, zero-shot in every language."""
    from adapters_xtl.cli.commands import evaluate as command
    from adapters_xtl.cli.commands.recipe import request as request_of

    problems = Problems()
    request = request_of(
        problems=problems,
        task=task,
        on="",
        set_=set_,
        set_parents=(),
        data=data,
        test_file=test_file,
        text_columns=text_columns,
        label=label,
        languages=languages,
        split=split,
        backbone=backbone,
        device=device,
        runs=runs,
        strict=strict,
        allow_mismatch=allow_mismatch,
    )
    answer(
        as_json,
        lambda: command.evaluate(
            request,
            module,
            layer=layer,
            export=export,
            force=force,
            problems=problems,
            notify=say,
        ),
    )


def predict(
    module: Module,
    source: Annotated[
        str,
        typer.Argument(metavar="[IN.jsonl]", help="One JSON object a line; - or nothing: stdin."),
    ] = "-",
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="OUT.jsonl, or OUT.npy for embeddings.")
    ] = None,
    task: TaskName = "",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Report bad lines and leave them out.")
    ] = False,
    layer: Annotated[
        int | None,
        typer.Option(
            "--layer",
            metavar="N",
            parser=whole_number_for("--layer"),
            help="Hidden state for embeddings; 0: embeddings.",
        ),
    ] = None,
    backbone: Backbone = None,
    device: Device = "auto",
    runs: Runs = "runs",
    allow_mismatch: AllowMismatch = False,
) -> None:
    """Answer lines of JSON with a trained MODULE: labels, answers with offsets, tags per word, or
    embeddings.
    """
    from adapters_xtl.cli.commands import predict as command

    command.predict(
        command.PredictRequest(
            module=module,
            source=source,
            out=out,
            task=task,
            layer=layer,
            skip_bad=skip_bad,
            runs=runs,
            backbone=backbone,
            device=device,
            allow_mismatch=allow_mismatch,
        ),
        say,
    )


def score(
    run: Annotated[str, typer.Argument(help="A run directory or a run id.")],
    runs: Runs = "runs",
    bootstrap: Annotated[
        str,
        typer.Option(
            "--bootstrap", metavar="N", help="95 % intervals of every score from N resamples."
        ),
    ] = "0",
    as_json: Json = False,
) -> None:
    """Score a run's predictions again, without a model."""
    from adapters_xtl.cli.commands import score as command

    answer(as_json, lambda: command.score(run, runs, bootstrap))
