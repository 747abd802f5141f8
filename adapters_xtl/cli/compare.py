"""`xtl compare`: methods against full fine-tuning."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from adapters_xtl.cli.flags import (
    Backbone,
    Compose,
    Data,
    Device,
    Json,
    Languages,
    Memory,
    Protocol,
    ReportTo,
    Reseed,
    Runs,
    SetParents,
    Split,
    Strict,
    answer,
    say,
)

__all__ = ["compare"]


def compare(
    task: Annotated[str, typer.Argument(help="A task, several (a,b), or all: every target.")],
    on: Annotated[
        list[str], typer.Option("--on", help="Parents A,B, or none; again for more chains.")
    ] = [],
    methods: Annotated[
        str | None, typer.Option("--methods", help="Names; lora@8 fixes bits. Default: all three.")
    ] = None,
    bits: Annotated[
        str, typer.Option("--bits", help="Of bottleneck and lora, e.g. 16,8,4 (full: 32).")
    ] = "auto",
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds that are reported.")] = "1,2,3",
    tune: Annotated[
        list[str],
        typer.Option(
            "--tune",
            help="key=value,value: trials, chosen on the select split; full:lr=… for one method.",
        ),
    ] = [],
    tune_seeds: Annotated[
        str, typer.Option("--tune-seeds", help="Seeds of the trials; default: the lowest free one.")
    ] = "",
    compose: Compose = None,
    backbone: Backbone = None,
    data: Data = None,
    device: Device = "auto",
    languages: Languages = None,
    split: Split = None,
    protocol: Protocol = "clean",
    set_: Annotated[
        list[str],
        typer.Option(
            "--set",
            help="key=value: train.*, eval.max_examples, method.*; full:train.lr=… for one method.",
        ),
    ] = [],
    set_parents: SetParents = [],
    reseed: Reseed = False,
    runs: Runs = "runs",
    strict: Strict = False,
    memory: Memory = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the runs and what they will take; run nothing.")
    ] = False,
    out: Annotated[
        str | None, typer.Option("-o", "--out", help="Directory of the table's JSON and the plots.")
    ] = None,
    report_to: ReportTo = "",
    as_json: Json = False,
) -> None:
    """Compare methods, precisions and parents with full fine-tuning on TASK, over seeds."""
    from adapters_xtl.cli.commands import compare as command

    comparison = command.comparison(
        task=task,
        on=on,
        methods_=methods,
        bits=bits,
        seeds=seeds,
        tune=tune,
        tune_seeds=tune_seeds,
        compose=compose,
        backbone=backbone,
        data=data,
        device=device,
        languages=languages,
        split=split,
        protocol=protocol,
        set_=set_,
        set_parents=set_parents,
        reseed=reseed,
        runs=runs,
        strict=strict,
        memory=memory,
        report_to=report_to,
    )
    typed = shlex.join(["xtl", *sys.argv[1:]])
    payload = answer(
        as_json,
        lambda: command.compare(comparison, command=typed, out=out, dry_run=dry_run, notify=say),
    )
    if payload.get("failed"):
        raise typer.Exit(1)
