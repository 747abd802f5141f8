"""`xtl cache`: what is kept of texts, states and tokens, shown and cleared."""

from __future__ import annotations

from adapters_xtl.cli.flags import Json, answer
from adapters_xtl.cli.typer_command import Commands

__all__ = ["app"]

app = Commands(
    no_args_is_help=True,
    help="""What trainings keep for later ones: show and clear it.

    The states of texts under a module with --from-layer K lie in `prefix/` of the cache
    ($XTL_CACHE, else ~/.cache/adapters_xtl) and take at most $XTL_PREFIX_GIB GiB (4); tokenized
    rows lie in `tokenized/` and take at most $XTL_TOKENIZED_GIB GiB (1). What was used longest ago
    goes first.
    """,
)


@app.command()
def show(as_json: Json = False) -> None:
    """Show what is kept: states by encoder, layer and precision, and the tokenized rows."""
    from adapters_xtl.cli.commands import cache as command

    answer(as_json, command.show)


@app.command()
def clear(as_json: Json = False) -> None:
    """Delete all of it.

    No run changes: what is needed is computed again.
    """
    from adapters_xtl.cli.commands import cache as command

    answer(as_json, command.clear)
