"""Flags that several commands share, and how a command's answer is printed."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from adapters_xtl import methods
from adapters_xtl.base.errors import RequestError, clipped
from adapters_xtl.base.numbers import parse_number, parse_whole

__all__ = [
    "AllowMismatch",
    "AskedTask",
    "Backbone",
    "Bits",
    "Compose",
    "Data",
    "DataFile",
    "Device",
    "Force",
    "FromLayer",
    "Json",
    "Label",
    "Languages",
    "Memory",
    "Method",
    "On",
    "Protocol",
    "ReportTo",
    "Reseed",
    "Retained",
    "Runs",
    "Seed",
    "SelectFile",
    "Set",
    "SetParents",
    "Split",
    "Strict",
    "TestFile",
    "TextColumns",
    "answer",
    "number_for",
    "say",
    "whole_number_for",
]


def whole_number_for(flag: str, lowest: int | None = None) -> Callable[[str], int]:
    """The parser of a flag that takes a whole number; RequestError, one line, for anything else."""

    def parse(text: str) -> int:
        value = parse_whole(str(text))
        if value is None or (lowest is not None and value < lowest):
            least = "" if lowest is None else f" from {lowest} on"
            raise RequestError(f"{flag} {clipped(text)}: takes a whole number{least}")
        return value

    return parse


def number_for(flag: str) -> Callable[[str], float]:
    """The parser of a flag that takes a number; RequestError, one line, for anything else."""

    def parse(text: str) -> float:
        value = parse_number(str(text)) if isinstance(text, str) else text
        if value is None:
            raise RequestError(f"{flag} {clipped(text)}: takes a number")
        return value

    return parse


On = Annotated[
    str,
    typer.Option("--on", help="Parents, in order: tasks, runs, bundles, hub ids, random, self."),
]
Method = Annotated[str, typer.Option("--method", help=f"{', '.join(methods.names())}.")]
Compose = Annotated[
    str | None,
    typer.Option("--compose", help="stack, init, fuse or sum: how the child meets its parents."),
]
Backbone = Annotated[
    str | None,
    typer.Option("--backbone", help="A name (`xtl backbones`), a hub id or a directory."),
]
Data = Annotated[str | None, typer.Option("--data", help="embedded, hub, or a mirror directory.")]
Bits = Annotated[
    str, typer.Option("--bits", help="auto, 32, 16, 8 or 4: storage of the frozen backbone.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Memory = Annotated[
    float | None,
    typer.Option(
        "--memory",
        metavar="GB",
        parser=number_for("--memory"),
        help="GiB that training may take; see xtl plan.",
    ),
]
Languages = Annotated[
    str | None,
    typer.Option("--languages", help="What is scored: codes (de,zh), or xtreme, xtreme-r, all."),
]
Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="The split that is scored: validation or test; a domain, or several: email+reviews.",
    ),
]
Protocol = Annotated[
    str,
    typer.Option("--protocol", help="clean: no scored row also chooses the checkpoint; or xtreme."),
]
FromLayer = Annotated[
    int,
    typer.Option(
        "--from-layer",
        metavar="N",
        parser=whole_number_for("--from-layer"),
        help="Put modules only into the layers from this one up.",
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        metavar="N",
        parser=whole_number_for("--seed"),
        help="Of everything that is drawn: weights, order of the rows, dropout.",
    ),
]
AskedTask = Annotated[
    str,
    typer.Argument(
        help="A task (`xtl tasks`); with --data-file a format: classify, choice, span or tag."
    ),
]
Set = Annotated[
    list[str],
    typer.Option("--set", help="key=value: train.*, eval.*, method.*, speed.*"),
]
SetParents = Annotated[
    list[str],
    typer.Option(
        "--set-parents",
        help="The same, for the parents' runs; for one alone: mnli:train.max_steps=60, or 1:….",
    ),
]
DataFile = Annotated[
    list[str],
    typer.Option(
        "--data-file",
        metavar="FILE",
        help="Own train rows (CSV, TSV, JSONL, CoNLL, SQuAD's JSON): TASK is a format.",
    ),
]
SelectFile = Annotated[
    list[str],
    typer.Option("--select-file", metavar="FILE", help="Own rows that choose the checkpoint."),
]
TestFile = Annotated[
    list[str],
    typer.Option(
        "--test-file",
        metavar="FILE",
        help="Own rows that are scored, a file a language: test.sw.jsonl, 'test.*.jsonl'.",
    ),
]
TextColumns = Annotated[
    str, typer.Option("--text-columns", metavar="A,B", help="Columns of the texts in own rows.")
]
Label = Annotated[str, typer.Option("--label", metavar="COLUMN", help="Column of the labels.")]
Runs = Annotated[str, typer.Option("--runs", help="Directory of the runs.", envvar="XTL_RUNS")]
Force = Annotated[
    bool, typer.Option("--force", help="Run again; what the store has is kept under failed/.")
]
AllowMismatch = Annotated[
    bool, typer.Option("--allow-mismatch", help="Load a module on weights it was not trained on.")
]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")]
ReportTo = Annotated[
    str,
    typer.Option(
        "--report-to",
        metavar="NAMES",
        help="tensorboard, wandb, trackio, mlflow: trackers that follow the training.",
    ),
]
Reseed = Annotated[
    bool,
    typer.Option(
        "--reseed", help="A seed of its own for every training of the chain, made from --seed."
    ),
]
Retained = Annotated[
    bool,
    typer.Option(
        "--retained",
        help="Train nothing for TASK: score what its parents leave, with its own parent's head.",
    ),
]
Strict = Annotated[bool, typer.Option("--strict", help="Any unfit row is an error.")]


def say(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr, flush=True)


def answer(
    as_json: bool, call: Callable[[], tuple[dict[str, Any], Iterable[Any]]]
) -> dict[str, Any]:
    """Runs a command and prints what it shows or, with --json, its payload alone; returns the
    payload.

    Libraries print to stdout; while the command runs that is stderr.
    """
    with contextlib.redirect_stdout(sys.stderr):
        payload, shown = call()
    if as_json:
        unicode = (sys.stdout.encoding or "").lower().startswith("utf")
        print(json.dumps(payload, ensure_ascii=not unicode, allow_nan=False))
    else:
        from rich.console import Console

        console = Console(width=None if sys.stdout.isatty() else 120)
        for part in shown:  # a line stays one line, for whoever copies or reads it by a program
            console.print(part, highlight=False, markup=False, soft_wrap=isinstance(part, str))
    return payload
