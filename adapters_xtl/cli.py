"""The command line: one call each, no logic. Heavy modules are imported inside the commands."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from adapters_xtl.errors import XtlError

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
                  help="Intermediate tasks as stackable adapters on a frozen multilingual encoder.")  # fmt: skip
data_app = typer.Typer(no_args_is_help=True, help="Check a source's rows, or convert original files into a mirror.")
app.add_typer(data_app, name="data")

_debug = False

On = Annotated[str, typer.Option("--on", help="Parents, in order: tasks (trained if need be), run directories or run ids.")]
Method = Annotated[str, typer.Option("--method", help="bottleneck, lora or full.")]
Compose = Annotated[str | None, typer.Option("--compose", help="stack or init: how the child meets its parents.")]
Backbone = Annotated[str | None, typer.Option("--backbone", help="A name (`xtl backbones`), a hub id or a directory.")]
Data = Annotated[str | None, typer.Option("--data", help="embedded, hub, or a mirror directory.")]
Bits = Annotated[str, typer.Option("--bits", help="auto, 32, 16, 8 or 4: storage of the frozen backbone.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Languages = Annotated[str | None, typer.Option("--languages", help="Codes (de,zh), or xtreme, xtreme-r, all.")]
Split = Annotated[str | None, typer.Option("--split", help="The split that is scored: validation or test.")]
Protocol = Annotated[str, typer.Option("--protocol", help="clean: no row both selects and is reported; or xtreme.")]
FromLayer = Annotated[int, typer.Option("--from-layer", help="Put modules only into layers from this one up.")]
Seed = Annotated[int, typer.Option("--seed")]
Set = Annotated[list[str], typer.Option("--set", help="key=value: train.*, eval.max_examples, method.*")]
SetParents = Annotated[list[str], typer.Option("--set-parents", help="The same, for the parents' runs.")]
Runs = Annotated[str, typer.Option("--runs", help="Directory of the runs.", envvar="XTL_RUNS")]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")]
Strict = Annotated[bool, typer.Option("--strict", help="Any unfit row is an error.")]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _stdout_is_stderr() -> Iterator[None]:
    """Libraries print to stdout; with --json that belongs to one object alone."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _finish(payload: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(payload, ensure_ascii=False, allow_nan=False))


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 120)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    global _debug
    _debug = debug


@app.command()
def recipe(
    task: str, on: On = "", compose: Compose = None, method: Method = "bottleneck", backbone: Backbone = None,
    data: Data = None, bits: Bits = "auto", device: Device = "auto", languages: Languages = None, split: Split = None,
    protocol: Protocol = "clean", from_layer: FromLayer = 0, seed: Seed = 1, set_: Set = [],  # noqa: B006
    set_parents: SetParents = [], runs: Runs = "runs", strict: Strict = False,  # noqa: B006
    baseline: Annotated[bool, typer.Option("--baseline", help="Also run the task without parents.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Run again; what the store has is kept under failed/.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the runs and their ids; run nothing.")] = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Train a module for TASK (and its parents, if the store lacks them) and evaluate it."""
    from adapters_xtl import commands

    request = commands.request(
        task=task, on=on, compose=compose, method=method, backbone=backbone, data=data, bits=bits, device=device,
        languages=languages, split=split, protocol=protocol, from_layer=from_layer, seed=seed, set_=set_,
        set_parents=set_parents, runs=runs, strict=strict,
    )  # fmt: skip
    with _stdout_is_stderr():
        payload, shown = commands.recipe(request, baseline=baseline, force=force, dry_run=dry_run, notify=_say)
    if not as_json:
        _console().print(*shown, sep="\n", highlight=False)
    _finish(payload, as_json)


@app.command(name="tasks")
def tasks_(data: Data = None, as_json: Json = False) -> None:
    """List every task: kind, format, data, languages, metric, and what the source has."""
    from adapters_xtl import commands

    with _stdout_is_stderr():
        payload, table = commands.tasks_table(data)
    if not as_json:
        _console().print(table, highlight=False)
    _finish(payload, as_json)


@app.command()
def backbones(as_json: Json = False) -> None:
    """List the named backbones; hub ids and directories are taken too."""
    from adapters_xtl import commands

    payload, table = commands.backbones_table()
    if not as_json:
        _console().print(table, highlight=False)
    _finish(payload, as_json)


@app.command(name="runs")
def runs_(runs: Runs = "runs", as_json: Json = False) -> None:
    """List the finished runs."""
    from adapters_xtl import commands

    payload, table = commands.runs_table(runs)
    if not as_json:
        _console().print(table, highlight=False)
    _finish(payload, as_json)


@data_app.command()
def check(
    task: Annotated[str | None, typer.Argument(help="A task; every task when left out.")] = None,
    data: Annotated[str, typer.Option("--data", help="embedded, hub, or a mirror directory.")] = "embedded",
    strict: Strict = False,
    limit: Annotated[int, typer.Option("--limit", help="Bad rows to print.")] = 20,
    as_json: Json = False,
) -> None:
    """Validate a source: rows, labels, languages, lengths, and every bad row with its place."""
    from adapters_xtl import commands

    with _stdout_is_stderr():
        payload, shown = commands.check_data(task, data, limit)
    if not as_json:
        _console().print(*shown, sep="\n", highlight=False)
    _finish(payload, as_json)
    if payload["errors"] or (strict and payload["unfit"]):
        raise typer.Exit(2)


@data_app.command(name="import")
def import_(
    kind: Annotated[str, typer.Argument(help="xtreme or ccgbank.")], source: Path, out: Path, as_json: Json = False
) -> None:
    """Convert original files (XTREME's download directory, an LDC CCGbank) into a mirror at OUT."""
    from adapters_xtl import commands

    with _stdout_is_stderr():
        payload, shown = commands.import_data(kind, source, out)
    if not as_json:
        _console().print(*shown, sep="\n", highlight=False)
    _finish(payload, as_json)


@app.command(hidden=True)
def prepare() -> None:
    """Fetch and build the embedded encoder, if it is not there yet."""
    from adapters_xtl import mini

    _say(f"embedded encoder: {mini.prepare(_say)}")


def main() -> None:
    """Entry point: errors become one line each and an exit code (2: the request was wrong; 1: it failed)."""
    try:
        app(standalone_mode=True)
    except XtlError as error:
        if _debug:
            raise
        for line in str(error).split("\n"):
            _say(f"xtl: {line}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _say("xtl: interrupted; what was finished is kept, and the same command goes on from there")
        sys.exit(130)
    except MemoryError:
        _say("xtl: out of memory; a smaller train.batch_size or train.max_length needs less")
        sys.exit(1)
    except OSError as error:
        if _debug:
            raise
        _say(f"xtl: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        sys.exit(1)
