"""`xtl hub`: share modules, and take in others' after verifying them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapters_xtl.cli.flags import Backbone, Json, Runs, answer, say
from adapters_xtl.cli.typer_command import Commands

__all__ = ["app"]

app = Commands(
    no_args_is_help=True, help="Share modules on a hub or in a folder; take in others', verified."
)
Id = Annotated[
    str,
    typer.Argument(help="user/name[@revision], file:DIR/name[@revision] or a bundle directory."),
]


@app.command()
def push(
    run: Annotated[str, typer.Argument(help="A run directory, a run id or a bundle directory.")],
    dest: Annotated[
        str, typer.Argument(help="user/name on the hub; file:DIR or file:DIR/NAME, a folder.")
    ],
    with_parents: Annotated[
        bool, typer.Option("--with-parents", help="Push what it stands on, too.")
    ] = False,
    private: Annotated[
        bool, typer.Option("--private", help="A new repository on the hub is private.")
    ] = False,
    licence: Annotated[
        str, typer.Option("--licence", help="The hub's name of a licence for these weights.")
    ] = "",
    rows: Annotated[
        str, typer.Option("--rows", help="What a mirror's train rows are, in words for the card.")
    ] = "",
    runs: Runs = "runs",
    as_json: Json = False,
) -> None:
    """Share a trained module as a bundle: weights, head, card, lineage. Pushed again unchanged, it
    changes nothing.
    """
    from adapters_xtl.cli.commands import hub as command

    answer(
        as_json,
        lambda: command.push(
            run,
            dest,
            runs=runs,
            with_parents=with_parents,
            private=private,
            licence=licence,
            rows=rows,
            notify=say,
        ),
    )


@app.command()
def pull(
    id_: Id,
    out: Annotated[
        Path | None, typer.Option("-o", help="Also copy the bundle into this directory.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch a bundle and the parents it stands on; everything is verified before it is used."""
    from adapters_xtl.cli.commands import hub as command

    answer(as_json, lambda: command.pull(id_, out, notify=say))


@app.command(name="list")
def list_(
    place: Annotated[
        str | None, typer.Argument(help="file:DIR or a user of the hub; the cache when left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List bundles: of the cache, of a folder, of a user or organisation."""
    from adapters_xtl.cli.commands import hub as command

    answer(as_json, lambda: command.list_(place, notify=say))


@app.command()
def show(id_: Id, as_json: Json = False) -> None:
    """Show what a bundle says of itself, without fetching its weights."""
    from adapters_xtl.cli.commands import hub as command

    answer(as_json, lambda: command.show(id_, notify=say))


@app.command()
def verify(
    directory: Annotated[str, typer.Argument(help="A bundle directory.")], as_json: Json = False
) -> None:
    """Check every file, tensor shape and digest of a bundle; nothing in it is run."""
    from adapters_xtl.cli.commands import hub as command

    answer(as_json, lambda: command.verify(directory, notify=say))


@app.command(name="import")
def import_(
    directory: Annotated[Path, typer.Argument(help="What the library saved.")],
    task: Annotated[str, typer.Option("--task", help="The task it was trained for.")],
    backbone: Backbone = None,
    labels: Annotated[
        str, typer.Option("--labels", help="Classes of its head, in its order: a,b,c.")
    ] = "",
    runs: Runs = "runs",
    as_json: Json = False,
) -> None:
    """Take in an adapter saved by `adapters`, or a LoRA saved by `peft`, as a run that others can
    stand on.
    """
    from adapters_xtl.cli.commands import hub as command

    answer(
        as_json,
        lambda: command.import_(directory, task, backbone=backbone, labels=labels, runs=runs),
    )
