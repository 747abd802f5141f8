"""The command line: flags are parsed, one function is called, its result is printed.

`cli/<command>.py` holds a command's flags and help, light enough that `--help` answers at once;
`cli/commands/<command>.py` holds what the command does, and is imported when it is called. `main`
is the entry point: it turns errors into one line each and an exit code.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from adapters_xtl.base.errors import XtlError
from adapters_xtl.base.signals import interrupt_on_signals
from adapters_xtl.cli import (
    cache,
    compare,
    data,
    export,
    hub,
    listing,
    modules,
    page,
    plan,
    recipe,
    runs,
    study,
)
from adapters_xtl.cli.failures import report
from adapters_xtl.cli.flags import say
from adapters_xtl.cli.typer_command import Commands

__all__ = ["app", "main"]

app = Commands(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Intermediate tasks as stackable adapters on a frozen multilingual encoder.",
)
for command in (
    recipe.recipe,
    modules.evaluate,
    modules.predict,
    modules.score,
    export.merge,
    compare.compare,
    study.study,
    page.page,
    listing.tasks,
    listing.backbones,
    plan.plan,
):
    app.command()(command)
app.add_typer(data.app, name="data")
app.add_typer(hub.app, name="hub")
app.add_typer(runs.app, name="runs")
app.add_typer(export.app, name="export")
app.add_typer(cache.app, name="cache")

_debug = False
_command = ""  # the name of the command that was called


@app.callback()
def _options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    global _debug, _command
    _debug, _command = debug, context.invoked_subcommand or ""


@app.command(hidden=True)
def prepare() -> None:
    """Fetch and build the embedded encoder, if it is not there yet."""
    from adapters_xtl.backbones import embedded

    say(f"embedded encoder: {embedded.prepare(say)}")


def main() -> None:
    """Parses the arguments and runs the command. Exit codes: 0 done, 1 failed while running, 2 the
    request was wrong, 130 interrupted (143 and 129 by SIGTERM and SIGHUP).
    """
    interrupt_on_signals()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # what a code page of Windows, or another old encoding, has no letter for is escaped
            stream.reconfigure(errors="backslashreplace")
    # OpenMP's threads spin while they wait; where another process wants the cores, that made
    # training ten times slower
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        app(standalone_mode=True)
    except (XtlError, KeyboardInterrupt, SystemExit, MemoryError, RuntimeError, OSError) as error:
        if isinstance(error, SystemExit) and error.code != 130:  # typer's, of an interrupt
            raise
        if _debug and not isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        sys.exit(report(error, _command, say))
