"""`xtl runs`: the runs of a store, listed, shown, checked and removed."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from adapters_xtl.base.errors import RequestError, nearest
from adapters_xtl.cli.flags import Json, Runs, answer, number_for
from adapters_xtl.cli.typer_command import Commands

__all__ = ["app"]

LIST = "list"
# the keys of runs/run_filters.py, which --help need not import
TEXTS = ("id", "task", "on", "kind", "state", "method", "compose", "backbone", "data", "protocol")
KEYS = (*TEXTS, "bits", "seed", "score", "seconds", "bytes", "age")
WITH_VALUE = ("--runs", "--older-than")  # options that take one


class _ListsByDefault(TyperGroup):
    """A group of commands whose `list` may be left out, and whose options may stand before the
    command's name: `xtl runs task=xnli`, `xtl runs --runs DIR check`.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args[:1] == ["--help"]:
            return super().parse_args(ctx, args)
        place = _after_options(args)
        first = args[place] if place < len(args) else ""
        if first in self.commands:
            args = [first, *args[:place], *args[place + 1 :]]
            return super().parse_args(ctx, args)
        if re.fullmatch(r"[a-z][a-z-]*", first) and first not in KEYS and not _is_hex(first):
            raise RequestError(
                f"xtl runs {first}: no such command{nearest(first, self.commands)}; a filter is"
                " KEY=VALUE"
            )
        return super().parse_args(ctx, [LIST, *args])


def _after_options(args: list[str]) -> int:
    """The place of the first argument that is no option nor an option's value."""
    place = 0
    while place < len(args) and args[place].startswith("-"):
        place += 2 if args[place] in WITH_VALUE else 1
    return place


def _is_hex(text: str) -> bool:
    return bool(re.fullmatch(r"[a-f]+", text))


app = Commands(
    cls=_ListsByDefault,
    subcommand_metavar="[FILTER]... | COMMAND [ARGS]...",
    help="""The runs of a store: list, show, check and remove them.

    FILTER is KEY=VALUE[,VALUE…] or KEY!=VALUE, where a value may hold * and ?; numbers also take
    '<', '<=', '>' and '>=', in quotes. Several filters must all hold. Keys: id task on kind state
    method compose backbone data protocol bits seed, and of numbers score seconds bytes age (days).
    """,
)
Filters = Annotated[
    list[str], typer.Argument(metavar="FILTER", help="KEY=VALUE, see xtl runs --help.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would go; delete nothing.")]
RUN_HELP = "A run's id, or its beginning, or its directory."


@app.command(name=LIST)
def list_(filters: Filters = [], runs: Runs = "runs", as_json: Json = False) -> None:
    """List the runs that fit every FILTER (the default)."""
    from adapters_xtl.cli.commands import runs as command

    answer(as_json, lambda: command.list_runs(filters, runs))


@app.command()
def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP)],
    runs: Runs = "runs",
    as_json: Json = False,
) -> None:
    """Show a run, and the command that makes it again.

    What it is, its scores, what it cost, its parents, what stands on it, its files.
    """
    from adapters_xtl.cli.commands import runs as command

    answer(as_json, lambda: command.show_run(run, runs))


@app.command()
def rm(
    ids: Annotated[list[str], typer.Argument(metavar="RUN", help=RUN_HELP)],
    with_children: Annotated[
        bool,
        typer.Option("--with-children", help="Also what was trained on them, and evaluations."),
    ] = False,
    dry_run: DryRun = False,
    runs: Runs = "runs",
    as_json: Json = False,
) -> None:
    """Remove runs that no other runs stand on.

    Finished, partial and damaged ones, but none that a process works on.
    """
    from adapters_xtl.cli.commands import runs as command

    answer(
        as_json,
        lambda: command.remove_runs(ids, runs, with_children=with_children, dry_run=dry_run),
    )


@app.command()
def check(filters: Filters = [], runs: Runs = "runs", as_json: Json = False) -> None:
    """Check every file of the runs by its digest.

    Exit code 1 where one is damaged, whatever else is found.
    """
    from adapters_xtl.cli.commands import runs as command

    payload = answer(as_json, lambda: command.check_runs(filters, runs))
    if payload["damaged"] or payload["unreadable"] or payload["damaged_analyses"]:
        raise typer.Exit(1)


@app.command()
def gc(
    dry_run: DryRun = False,
    older_than: Annotated[
        float,
        typer.Option(
            "--older-than",
            metavar="DAYS",
            parser=number_for("--older-than"),
            help="Partial runs go when nothing was written to them for so many days.",
        ),
    ] = 7.0,
    runs: Runs = "runs",
    as_json: Json = False,
) -> None:
    """Delete what failed and interrupted runs left.

    That is failed/, scratch, partial runs that are old and that no process holds, and stale locks;
    a finished run never goes.
    """
    from adapters_xtl.cli.commands import runs as command

    answer(
        as_json,
        lambda: command.collect_garbage(runs, older_than=older_than, dry_run=dry_run),
    )
