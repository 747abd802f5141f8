"""`xtl page`: studies and runs as one HTML file."""

from __future__ import annotations

from typing import Annotated

import typer

from adapters_xtl.cli.flags import Json, answer

__all__ = ["page"]


def page(
    studies: Annotated[
        list[str],
        typer.Argument(
            metavar="[STUDY_DIR…]", help="Directories of studies; none: all runs of --runs."
        ),
    ] = [],
    runs: Annotated[
        str | None,
        typer.Option(
            "--runs",
            envvar="XTL_RUNS",
            help="Directory of the runs; default: where the study lies, else runs.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option("-o", "--out", help="The file; default: page.html beside the study or runs."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make one self-contained HTML page of studies, or of all runs of a store."""
    from adapters_xtl.cli.commands import page as command

    answer(as_json, lambda: command.page(studies, runs=runs, out=out))
