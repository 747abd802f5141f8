"""`xtl cache`: what is kept of a frozen encoder's states, shown and cleared."""

from __future__ import annotations

from adapters_xtl.cli.flags import Json, answer
from adapters_xtl.cli.typer_command import Commands

__all__ = ["app"]

app = Commands(
    no_args_is_help=True,
    help="""The states of texts that trainings with --from-layer K keep: show and clear them.

    They lie under `prefix/` of the cache ($XTL_CACHE, else ~/.cache/adapters_xtl) and take at most
    $XTL_PREFIX_GIB GiB (4); what was used longest ago goes first.
    """,
)


@app.command()
def show(as_json: Json = False) -> None:
    """Show what is kept: encoder, layer, precision, texts and bytes."""
    from adapters_xtl.cli.commands import cache as command

    answer(as_json, command.show)


@app.command()
def clear(as_json: Json = False) -> None:
    """Delete all of it.

    No run changes: states are computed again when they are needed.
    """
    from adapters_xtl.cli.commands import cache as command

    answer(as_json, command.clear)
