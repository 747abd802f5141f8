"""A format, a metric and a task as a contributor would write them, and the command line that has
them: the example of CONTRIBUTING.md, taken through everything by tests/test_dropped_in.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent


def drop_in() -> None:
    """Makes the files of this folder part of the package, as if they were copied into its own."""
    from adapters_xtl import formats, methods, metrics, tasks
    from adapters_xtl.runs import settings

    for wing in (formats, methods, metrics, tasks):
        folder = str(HERE / wing.__name__.rpartition(".")[2])
        if folder not in wing.__path__:
            wing.__path__.append(folder)
    own_recipes = settings.read_recipe

    def read_recipe(task, directory=None):  # type: ignore[no-untyped-def]
        here = HERE / "recipes" / f"{task}.toml"
        return own_recipes(task, here.parent if here.is_file() else directory)

    settings.read_recipe = read_recipe


if __name__ == "__main__":
    drop_in()
    from adapters_xtl.cli import main

    sys.argv = ["xtl", *sys.argv[1:]]
    main()
