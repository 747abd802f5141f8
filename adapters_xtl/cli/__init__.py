"""The command line: one call each, no logic. Heavy modules are imported inside the commands."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from adapters_xtl.base.errors import XtlError, out_of_memory
from adapters_xtl.cli import compare, data, hub, listing, memory, modules, training
from adapters_xtl.cli.flags import say

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Intermediate tasks as stackable adapters on a frozen multilingual encoder.",
)
for command in (
    training.recipe,
    modules.evaluate,
    modules.predict,
    modules.score,
    compare.compare,
    listing.tasks,
    listing.backbones,
    listing.runs,
    memory.plan,
):
    app.command()(command)
app.add_typer(data.app, name="data")
app.add_typer(hub.app, name="hub")

_debug = False


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    global _debug
    _debug = debug


@app.command(hidden=True)
def prepare() -> None:
    """Fetch and build the embedded encoder, if it is not there yet."""
    from adapters_xtl.backbones import embedded

    say(f"embedded encoder: {embedded.prepare(say)}")


def main() -> None:
    """Entry point: errors become one line each and an exit code (2: the request was wrong; 1: it
    failed).
    """
    # OpenMP's threads spin while they wait; where another process wants the cores, that made
    # training ten times slower
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        app(standalone_mode=True)
    except XtlError as error:
        if _debug:
            raise
        for line in str(error).split("\n"):
            say(f"xtl: {line}")
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as error:  # typer makes the first into the second
        if isinstance(error, SystemExit) and error.code != 130:
            raise
        say("xtl: interrupted; what was finished is kept, and the same command goes on from there")
        sys.exit(130)
    except (MemoryError, RuntimeError) as error:
        if _debug or not out_of_memory(error):
            raise
        say(
            "xtl: out of memory; a smaller train.batch_size or train.max_length, or fewer --bits,"
            " need less"
        )
        sys.exit(1)
    except OSError as error:
        if _debug:
            raise
        say(f"xtl: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        sys.exit(1)
