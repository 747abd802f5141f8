"""`xtl recipe`: train a module for a task and evaluate it."""

from __future__ import annotations

from typing import Annotated

import typer

from adapters_xtl import methods
from adapters_xtl.base.errors import Problems
from adapters_xtl.cli.flags import (
    AllowMismatch,
    AskedTask,
    Backbone,
    Bits,
    Compose,
    Data,
    DataFile,
    Device,
    Force,
    FromLayer,
    Json,
    Label,
    Languages,
    Memory,
    Method,
    On,
    Protocol,
    ReportTo,
    Reseed,
    Retained,
    Runs,
    Seed,
    SelectFile,
    Set,
    SetParents,
    Split,
    Strict,
    TestFile,
    TextColumns,
    answer,
    say,
)

__all__ = ["recipe"]


def recipe(
    task: AskedTask,
    on: On = "",
    compose: Compose = None,
    method: Method = methods.DEFAULT,
    backbone: Backbone = None,
    data: Data = None,
    data_file: DataFile = [],
    select_file: SelectFile = [],
    test_file: TestFile = [],
    text_columns: TextColumns = "",
    label: Label = "",
    bits: Bits = "auto",
    device: Device = "auto",
    languages: Languages = None,
    split: Split = None,
    protocol: Protocol = "clean",
    from_layer: FromLayer = 0,
    seed: Seed = 1,
    reseed: Reseed = False,
    retained: Retained = False,
    set_: Set = [],
    set_parents: SetParents = [],
    runs: Runs = "runs",
    strict: Strict = False,
    memory: Memory = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Also run the task without parents.")
    ] = False,
    zero_shot: Annotated[
        bool | None,
        typer.Option(
            "--zero-shot/--no-zero-shot",
            help="Also score the module, as it is, on the multilingual test set of the same task:"
            " mnli on xnli, squad1 on xquad. On sample rows by default.",
            show_default=False,
        ),
    ] = None,
    force: Force = False,
    allow_mismatch: AllowMismatch = False,
    seeds: Annotated[
        str, typer.Option("--seeds", help="Run once a seed, e.g. 1,2,3, and give t-intervals.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the runs and their ids; run nothing.")
    ] = False,
    report_to: ReportTo = "",
    as_json: Json = False,
) -> None:
    """Train a module for TASK (and its parents, if the store lacks them) and evaluate it."""
    from adapters_xtl.cli.commands import recipe as command

    problems = Problems()
    request = command.request(
        problems=problems,
        task=task,
        on=on,
        compose=compose,
        method=method,
        backbone=backbone,
        data=data,
        data_file=data_file,
        select_file=select_file,
        test_file=test_file,
        text_columns=text_columns,
        label=label,
        bits=bits,
        device=device,
        languages=languages,
        split=split,
        protocol=protocol,
        from_layer=from_layer,
        seed=seed,
        set_=set_,
        set_parents=set_parents,
        reseed=reseed,
        retained=retained,
        runs=runs,
        strict=strict,
        memory=memory,
        allow_mismatch=allow_mismatch,
        report_to=report_to,
    )
    answer(
        as_json,
        lambda: command.recipe(
            request,
            baseline=baseline,
            force=force,
            dry_run=dry_run,
            seeds=seeds,
            zero_shot=zero_shot,
            problems=problems,
            notify=say,
        ),
    )
