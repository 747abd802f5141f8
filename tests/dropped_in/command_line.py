"""The command line with a format, a metric, a task, a method and a study more: the files of this folder are the
examples of CONTRIBUTING.md, and tests/test_dropped_in.py takes them through everything.
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent


def drop_in() -> None:
    """Makes the files of this folder part of the package, as if they were copied into its own."""
    from adapters_xtl import formats, methods, metrics, studies, tasks
    from adapters_xtl.runs import recipes

    for wing in (formats, methods, metrics, studies, tasks):
        wing.__path__.append(str(HERE / wing.__name__.rpartition(".")[2]))
    recipes.recipes_dir = lambda: HERE / "recipes"


drop_in()

if __name__ == "__main__":
    from adapters_xtl.cli import main

    main()
