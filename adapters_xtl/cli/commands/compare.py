"""`xtl compare`: its flags become the grid of the study `methods`, which is carried out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from adapters_xtl import engines, methods, studies
from adapters_xtl.base.errors import Problems
from adapters_xtl.base.extras import need
from adapters_xtl.base.files import write_json
from adapters_xtl.base.numbers import parse_seeds
from adapters_xtl.cli.commands import study as study_command
from adapters_xtl.cli.commands.recipe import request
from adapters_xtl.grid import grid_options, record
from adapters_xtl.grid.cell_plans import CellPlans
from adapters_xtl.grid.cells import Axis, Cell, Grid
from adapters_xtl.pages import comparison_tables, plots

__all__ = ["compare", "comparison"]

METHODS = ",".join(methods.COMPARED)
# of `xtl compare all`, unless others are asked for
ALL_METHODS, ALL_CHAINS = f"{METHODS},lora@8", ("none", "mnli", "squad1")
RECORD = "comparison.json"


def comparison(
    *,
    task: str,
    on: Sequence[str],
    methods_: str | None,
    bits: str,
    seeds: str,
    tune: Sequence[str],
    tune_seeds: str,
    set_: Sequence[str],
    set_parents: Sequence[str],
    **options: Any,
) -> Grid:
    """The flags as a grid. RequestError with every malformed flag; what only a plan can tell is
    found when the cells are planned.
    """
    problems = Problems()
    all_targets = task == grid_options.ALL
    task_names = grid_options.task_names(grid_options.names(task), problems)
    names = grid_options.names(methods_ or (ALL_METHODS if all_targets else METHODS))
    variants = grid_options.variants(names, grid_options.names(bits), problems)
    grid_options.check_bits(names, grid_options.names(bits), problems)
    chains = tuple(
        dict.fromkeys(
            grid_options.chain(text) for text in on or (ALL_CHAINS if all_targets else ("none",))
        )
    )
    for text in on:
        grid_options.check_chain(text, "--on", problems)
    reported_seeds = parse_seeds(seeds, "--seeds", problems)
    method_names = tuple(dict.fromkeys(variant.method for variant in variants))
    shared, own = grid_options.by_method(set_, "--set", method_names, problems)
    shared_parents, own_parents = grid_options.by_method(
        set_parents, "--set-parents", method_names, problems
    )
    if own_parents and not any(chains):
        problems.add("--set-parents: nothing compared here has parents (--on)")
    base = request(
        task="",
        on="",
        seed=0,
        set_=shared,
        set_parents=shared_parents,
        problems=problems,
        **options,
    )
    tuning = grid_options.parse_tuning(tune, tune_seeds, reported_seeds, method_names, problems)
    problems.raise_if_any()
    parents = {chain: ">".join(chain) or grid_options.NO_PARENTS for chain in chains}
    cells = tuple(
        Cell(
            name,
            variant,
            chain,
            (("task", name), ("on", parents[chain]), ("method", str(variant))),
        )
        for name in task_names
        for chain in chains
        for variant in variants
    )
    axes = (
        Axis("task", task_names),
        Axis("on", tuple(parents.values())),
        Axis("method", tuple(map(str, variants))),
    )
    return Grid(
        "methods",
        axes,
        cells,
        reported_seeds,
        base,
        tuning,
        own,
        own_parents,
        skip_lacking=all_targets,
    )


def compare(
    grid: Grid,
    *,
    command: str,
    out: str | None,
    dry_run: bool,
    notify: Callable[[str], None],
) -> tuple[dict[str, Any], list[Table | str]]:
    """Runs a comparison and writes `comparison.json`, `memory.png` and `memory.svg` to `out`.

    The payload is the written record and its `path`; with `dry_run` it is the runs to come.
    """
    if not dry_run:
        need("a comparison, whose plots are drawn,", "matplotlib")
    plans = CellPlans(grid)
    study_command.notify_choices(plans, notify)
    if dry_run:
        return study_command.dry_run(plans)
    name = f"{record.title(grid)}-{record.grid_id(grid)}"
    folder = study_command.writable(
        out, Path(grid.base.runs) / "compare" / name, record.grid_id(grid)
    )
    written = study_command.carry_out_grid(
        studies.load("methods"),
        plans,
        engines.load("local"),
        folder,
        command=command,
        heading="",
        retry_failed=True,
        notify=notify,
    )
    written["plots"] = [file.name for file in plots.comparison(written, folder)]
    write_json(folder / RECORD, written)
    shown = [
        *comparison_tables.table(written),
        *comparison_tables.published(written["published"]),
        f"comparison: {folder}",
    ]
    return {"path": str(folder), **written}, shown
