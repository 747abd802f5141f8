"""`xtl data`: check a source's rows, convert original files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapters_xtl.cli.flags import Json, Strict, answer, say, whole_number_for
from adapters_xtl.cli.typer_command import Commands

__all__ = ["app"]

app = Commands(
    no_args_is_help=True, help="Check a source's rows, or convert original files into a mirror."
)


@app.command()
def check(
    task: Annotated[str | None, typer.Argument(help="A task; every task when left out.")] = None,
    data: Annotated[
        str, typer.Option("--data", help="embedded, hub, or a mirror directory.")
    ] = "embedded",
    strict: Strict = False,
    limit: Annotated[
        int,
        typer.Option(
            "--limit",
            metavar="N",
            parser=whole_number_for("--limit", lowest=0),
            help="Bad rows to print.",
        ),
    ] = 20,
    as_json: Json = False,
) -> None:
    """Validate a source: rows, labels, languages, lengths, and every bad row with its place."""
    from adapters_xtl.cli.commands import data as command

    payload = answer(as_json, lambda: command.check_data(task, data, limit))
    if payload["errors"] or (strict and payload["unfit"]):
        raise typer.Exit(2)


@app.command(name="import")
def import_(
    kind: Annotated[str, typer.Argument(help="xtreme or ccgbank.")],
    source: Annotated[Path, typer.Argument(help="The directory with the original files.")],
    out: Annotated[Path, typer.Argument(help="The mirror's directory.")],
    as_json: Json = False,
) -> None:
    """Convert original files (XTREME's download directory, an LDC CCGbank) into a mirror at OUT."""
    from adapters_xtl.cli.commands import data as command

    payload = answer(as_json, lambda: command.import_data(kind, source, out))
    if not payload["written"]:
        say(f"xtl: data import: nothing in {source} can be trained on or scored; nothing written")
        raise typer.Exit(2)
