"""`xtl compare`: its flags become a comparison, which is run, written down, drawn and printed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from adapters_xtl import methods, tasks
from adapters_xtl.backbones import BITS
from adapters_xtl.base.errors import Problems, RequestError, nearest
from adapters_xtl.base.files import write_json
from adapters_xtl.base.numbers import parse_seeds
from adapters_xtl.cli.commands.recipe import request
from adapters_xtl.pages import comparison_tables, plots
from adapters_xtl.runs.settings import HYPER_FIELDS, parse_override
from adapters_xtl.studies import comparison_record
from adapters_xtl.studies.cell_plans import CellPlans
from adapters_xtl.studies.cells import Comparison, Overrides, Tuning, Variant
from adapters_xtl.studies.execute import Worker
from adapters_xtl.studies.preview import preview

__all__ = ["compare", "comparison"]

ALL = "all"  # every target, with these methods and parents unless others are asked for
METHODS = ",".join(methods.COMPARED)
ALL_METHODS, ALL_CHAINS = f"{METHODS},lora@8", ("none", "mnli", "squad1")


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
) -> Comparison:
    """The flags as a comparison. RequestError with every malformed flag; what only a plan can tell
    is found when the cells are planned.
    """
    problems = Problems()
    all_targets = task == ALL
    task_names = _task_names(task, problems)
    variants = _variants(
        methods_ or (ALL_METHODS if all_targets else METHODS), _names(bits), problems
    )
    chains = tuple(
        dict.fromkeys(
            () if text.strip() == "none" else _names(text)
            for text in on or (ALL_CHAINS if all_targets else ("none",))
        )
    )
    reported_seeds = parse_seeds(seeds, "--seeds", problems)
    method_names = tuple(dict.fromkeys(variant.method for variant in variants))
    shared, own = _by_method(set_, "--set", method_names, problems)
    shared_parents, own_parents = _by_method(set_parents, "--set-parents", method_names, problems)
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
    tuning = _tuning(tune, tune_seeds, reported_seeds, method_names, problems)
    problems.raise_if_any()
    return Comparison(
        task_names,
        variants,
        chains,
        reported_seeds,
        base,
        tuning,
        own,
        own_parents,
        skip_lacking=all_targets,
    )


def compare(
    comparison: Comparison,
    *,
    command: str,
    out: str | None,
    dry_run: bool,
    notify: Callable[[str], None],
) -> tuple[dict[str, Any], list[Table | str]]:
    """Runs a comparison and writes `comparison.json`, `memory.png` and `memory.svg` to `out`.

    The payload is the written record and its `path`; with `dry_run` it is the runs to come.
    """
    plans = CellPlans(comparison)
    plan = comparison_record.first_plan(plans)
    if comparison.base.parent_overrides and not any(comparison.chains):
        notify("--set-parents has no effect: nothing compared here has parents (--on)")
    for line in (plan.notes[0].replace(f" · method {plan.request.method}", ""), *plans.idle):
        notify(line)
    if dry_run:
        runs_to_come = preview(plans)
        return runs_to_come, comparison_tables.ahead(runs_to_come["runs"], runs_to_come["total"])
    folder = (
        Path(out)
        if out
        else Path(comparison.base.runs) / "compare" / comparison_record.folder_name(comparison)
    )
    try:  # now, and not after hours of runs
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"{'--out' if out else '--runs'} {folder}: cannot be written ({error.strerror})"
        ) from error
    record = comparison_record.run(Worker(plans, notify), command=command, notify=notify)
    record["plots"] = [file.name for file in plots.comparison(record, folder)]
    write_json(folder / "comparison.json", record)
    shown = [
        *comparison_tables.table(record),
        *comparison_tables.published(record["published"]),
        f"comparison: {folder}",
    ]
    return {"path": str(folder), **record}, shown


# --- flags


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _task_names(text: str, problems: Problems) -> tuple[str, ...]:
    if text == ALL:
        return tuple(name for name in tasks.names() if tasks.load(name).kind == "target")
    names = _names(text)
    for name in names:
        if name not in tasks.names():
            problems.add(
                f"TASK {text}: all stands alone"
                if name == ALL
                else f"unknown task '{name}'{nearest(name, [*tasks.names(), ALL])}"
            )
    if not names:
        problems.add("TASK: a task, several with commas between them, or all")
    return names


def _variants(text: str, bits: tuple[str, ...], problems: Problems) -> tuple[Variant, ...]:
    """`full,lora@8` and `--bits 16,4` as variants: a name with bits of its own takes no others, and
    `full` stays at 32.
    """
    allowed = ("auto", *map(str, BITS))
    variants: list[Variant] = []
    for name in _names(text):
        method, at, own_bits = name.partition("@")
        if method not in methods.names():
            problems.add(f"--methods: unknown method '{method}'{nearest(method, methods.names())}")
        shared_bits = bits or ("auto",)
        if method in methods.names() and methods.load(method).whole_encoder:
            shared_bits = ("auto",)
        for value in (own_bits,) if at else shared_bits:
            if value not in allowed:
                flag = f"--methods {name}" if at else f"--bits {value}"
                problems.add(f"{flag}: takes {', '.join(allowed)}")
            variants.append(Variant(method, value))
    shared = [name for name in _names(text) if "@" not in name and name != "full"]
    if variants and not shared and bits not in ((), ("auto",)):
        problems.add(
            f"--bits {','.join(bits)}: means nothing here: {', '.join(_names(text))} take no other"
            " bits"
        )
    if not variants:
        problems.add(f"--methods: expected names separated by commas, e.g. {METHODS}")
    return tuple(dict.fromkeys(variants))


def _by_method(
    texts: Sequence[str], flag: str, method_names: Sequence[str], problems: Problems
) -> tuple[list[str], dict[str, Overrides]]:
    """Overrides as (those of every method, method → its own: `full:train.lr=1e-4`)."""
    shared: list[str] = []
    own: dict[str, Overrides] = {}
    for text in texts:
        method, colon, _ = text.partition("=")[0].partition(":")
        if not colon:
            shared.append(text)
        elif method not in method_names:
            problems.add(
                f"{flag} {text}: '{method}' is not among the methods"
                f" compared{nearest(method, method_names)}"
            )
        else:
            try:
                own[method] = (*own.get(method, ()), parse_override(text.partition(":")[2], flag))
            except RequestError as error:
                problems.catch(error)
    return shared, own


def _tuning(
    tune: Sequence[str],
    tune_seeds: str,
    reported_seeds: tuple[int, ...],
    method_names: Sequence[str],
    problems: Problems,
) -> Tuning | None:
    """`--tune` and `--tune-seeds`; without the latter, the lowest seed that is not reported."""
    if not tune:
        if tune_seeds:
            problems.add("--tune-seeds: there is nothing to tune; give --tune key=value,value")
        return None
    lowest_free = next(seed for seed in itertools.count() if seed not in reported_seeds)
    seeds = parse_seeds(tune_seeds, "--tune-seeds", problems) if tune_seeds else (lowest_free,)
    for seed in sorted(set(seeds) & set(reported_seeds)):
        problems.add(f"--tune-seeds {seed}: also reported (--seeds); a trial's seed must not be")
    return Tuning(_trials(tune, method_names, problems), seeds)


def _trials(
    texts: Sequence[str], method_names: Sequence[str], problems: Problems
) -> dict[str, tuple[Overrides, ...]]:
    """`lr=1e-4,3e-4`, `full:lr=1e-5,2e-5` as each method's trials: the product of its keys' values.

    A key with a method's name before it stands for that method alone, in place of the shared one.
    """
    shared: dict[str, Overrides] = {}  # key → one override for each value
    own: dict[str, dict[str, Overrides]] = {}
    for text in texts:
        left, equals, values = text.partition("=")
        method, colon, short_key = left.rpartition(":")
        method, short_key = method.strip(), short_key.strip()
        if not equals or not short_key or not _names(values):
            problems.add(
                f"--tune {text!r}: expected key=value,value, e.g. --tune lr=1e-4,3e-4,1e-3"
            )
            continue
        if colon and method not in method_names:
            problems.add(
                f"--tune {text}: '{method}' is not among the methods"
                f" compared{nearest(method, method_names)}"
            )
        key = short_key if short_key.startswith(("train.", "method.")) else f"train.{short_key}"
        if key.startswith("train.") and key.removeprefix("train.") not in HYPER_FIELDS:
            choices = [f"train.{name}" for name in HYPER_FIELDS]
            problems.add(f"--tune {text}: unknown key '{short_key}'{nearest(key, choices)}")
        overrides = []
        for value in _names(values):
            try:
                overrides.append(parse_override(f"{key}={value}", "--tune"))
            except RequestError as error:
                problems.catch(error)
        (own.setdefault(method, {}) if colon else shared)[key] = tuple(overrides)
    trials = {
        name: tuple(itertools.product(*{**shared, **own.get(name, {})}.values()))
        for name in method_names
    }
    if len({len(groups) for groups in trials.values()}) > 1:
        counts = ", ".join(f"{name} {len(groups)}" for name, groups in trials.items())
        problems.add(f"--tune: every method gets the same number of trials, not {counts}")
    return trials
