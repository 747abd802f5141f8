"""`xtl compare`: flags → a comparison → its runs → one table, one JSON, one picture."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from adapters_xtl import methods, tasks
from adapters_xtl.backbones import BITS
from adapters_xtl.base import machine
from adapters_xtl.base.errors import Problems, RequestError, RunError, nearest
from adapters_xtl.base.files import digest, write_json
from adapters_xtl.cli.commands.recipe import request
from adapters_xtl.pages import comparison_tables, plots
from adapters_xtl.runs.lookup import has
from adapters_xtl.runs.request import Plan, Request
from adapters_xtl.runs.settings import HYPER_FIELDS, parse_override
from adapters_xtl.studies import forecast, published
from adapters_xtl.studies.cells import Comparison, Overrides, Tuning, Variant
from adapters_xtl.studies.execute import Done, Worker
from adapters_xtl.studies.summary import averages, differences, row, unequal

__all__ = ["compare", "comparison"]

Notify = Callable[[str], None]
Shown = list[Table | str]
LEVEL = 0.95
ALL = "all"  # every target, and with it these methods and parents unless others are asked for
ALL_METHODS, ALL_CHAINS = "full,bottleneck,lora,lora@8", ("none", "mnli", "squad1")
NO_EVIDENCE = {
    "embedded": (
        "the embedded rows are samples: no evidence about a task, a method or an intermediate task"
    ),
    "mini": (
        "mini had labelled NLI, SQuAD and retrieval data in its own training, and its weights come"
        " from 4-bit files: no evidence about XLM-R, about intermediate training, or about what 8"
        " and 4 bits cost a larger model"
    ),
    "tiny": "tiny is random weights: its numbers only show that the machinery runs",
}


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


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
    """Flags → a comparison. RequestError with every malformed flag; what only a plan can tell is
    found later.
    """
    problems = Problems()
    every = task == ALL
    known = (
        tuple(name for name in tasks.names() if tasks.load(name).kind == "target")
        if every
        else _names(task)
    )
    for name in known:
        if name not in tasks.names():
            problems.add(
                f"TASK {task}: all stands alone"
                if name == ALL
                else f"unknown task '{name}'{nearest(name, [*tasks.names(), ALL])}"
            )
    if not known:
        problems.add("TASK: a task, several with commas between them, or all")
    variants = _variants(
        methods_ or (ALL_METHODS if every else "full,bottleneck,lora"), _names(bits), problems
    )
    chains = tuple(
        dict.fromkeys(
            () if text.strip() in ("none", "") else _names(text)
            for text in on or (ALL_CHAINS if every else ("none",))
        )
    )
    reported = _seeds(seeds, "--seeds", problems)
    names = tuple(dict.fromkeys(each.method for each in variants))
    general, own = _apart(set_, "--set", names, problems)
    general_parents, own_parents = _apart(set_parents, "--set-parents", names, problems)
    try:
        base = request(task="", on="", seed=0, set_=general, set_parents=general_parents, **options)
    except RequestError as error:
        problems.catch(error)
        base = Request("")
    tuning = None
    if tune:
        free = next(seed for seed in itertools.count() if seed not in reported)
        apart = _seeds(tune_seeds, "--tune-seeds", problems) if tune_seeds else (free,)
        for seed in sorted(set(apart) & set(reported)):
            problems.add(
                f"--tune-seeds {seed}: also reported (--seeds); a trial's seed must not be"
            )
        trials = _trials(tune, names, problems)
        tuning = Tuning(trials, apart)
    elif tune_seeds:
        problems.add("--tune-seeds: there is nothing to tune; give --tune key=value,value")
    problems.raise_if_any()
    return Comparison(
        known, variants, chains, reported, base, tuning, own, own_parents, skip_lacking=every
    )


def _variants(text: str, bits: tuple[str, ...], problems: Problems) -> tuple[Variant, ...]:
    """`full,lora@8` and `--bits 16,4` → variants. What names its own bits takes no others; `full`
    stays at 32.
    """
    allowed = ("auto", *map(str, BITS))
    found: list[Variant] = []
    for name in _names(text):
        method, at, own = name.partition("@")
        if method not in methods.names():
            problems.add(f"--methods: unknown method '{method}'{nearest(method, methods.names())}")
        for each in (own,) if at else ("auto",) if method == "full" else bits or ("auto",):
            if each not in allowed:
                problems.add(
                    f"{'--methods ' + name if at else f'--bits {each}'}: takes {', '.join(allowed)}"
                )
            found.append(Variant(method, each))
    if not found:
        problems.add("--methods: expected names separated by commas, e.g. full,bottleneck,lora")
    return tuple(dict.fromkeys(found))


def _seeds(text: str, flag: str, problems: Problems) -> tuple[int, ...]:
    names = _names(text)
    wrong = [name for name in names if not name.isdecimal() or len(name) > 10 or int(name) >= 2**32]
    for name in wrong:
        problems.add(f"{flag} {name[:40]}: takes whole numbers from 0 to 4294967295, e.g. 1,2,3")
    if not names:
        problems.add(f"{flag}: expected whole numbers separated by commas, e.g. 1,2,3")
    return tuple(dict.fromkeys(int(name) for name in names if name not in wrong))


def _apart(
    texts: Sequence[str], flag: str, names: Sequence[str], problems: Problems
) -> tuple[list[str], dict[str, Overrides]]:
    """Overrides → (those of every method, method → those that name it: `full:train.lr=1e-4`)."""
    general: list[str] = []
    own: dict[str, Overrides] = {}
    for text in texts:
        method, colon, _ = text.partition("=")[0].partition(":")
        if not colon:
            general.append(text)
        elif method not in names:
            problems.add(
                f"{flag} {text}: '{method}' is not among the methods"
                f" compared{nearest(method, names)}"
            )
        else:
            try:
                own[method] = (*own.get(method, ()), parse_override(text.partition(":")[2], flag))
            except RequestError as error:
                problems.catch(error)
    return general, own


def _trials(
    texts: Sequence[str], names: Sequence[str], problems: Problems
) -> dict[str, tuple[Overrides, ...]]:
    """`lr=1e-4,3e-4`, `full:lr=1e-5,2e-5` → each method's trials: the product of its keys' values.

    A key with a method's name before it stands for that method alone, in place of the general one.
    """
    grids: dict[str, dict[str, Overrides]] = {"": {}}
    for text in texts:
        left, equals, values = text.partition("=")
        method, colon, key = left.rpartition(":")
        method, key = method.strip(), key.strip()
        if not equals or not key or not _names(values):
            problems.add(
                f"--tune {text!r}: expected key=value,value, e.g. --tune lr=1e-4,3e-4,1e-3"
            )
            continue
        if colon and method not in names:
            problems.add(
                f"--tune {text}: '{method}' is not among the methods"
                f" compared{nearest(method, names)}"
            )
        full = key if key.startswith(("train.", "method.")) else f"train.{key}"
        if full.startswith("train.") and full.removeprefix("train.") not in HYPER_FIELDS:
            problems.add(
                f"--tune {text}: unknown key"
                f" '{key}'{nearest(full, [f'train.{name}' for name in HYPER_FIELDS])}"
            )
        grids.setdefault(method, {})[full] = tuple(
            parse_override(f"{full}={value}", "--tune") for value in _names(values)
        )
    found = {}
    for name in names:
        grid = {**grids[""], **grids.get(name, {})}
        found[name] = tuple(itertools.product(*grid.values()))
    if len({len(trials) for trials in found.values()}) > 1:
        counts = ", ".join(f"{name} {len(trials)}" for name, trials in found.items())
        problems.add(f"--tune: every method gets the same number of trials, not {counts}")
    return found


def compare(
    asked: Comparison, *, command: str, out: str | None, dry_run: bool, notify: Notify
) -> tuple[dict[str, Any], Shown]:
    """Runs a comparison and writes `comparison.json`, `memory.png` and `memory.svg` to `out`.

    The payload is the written record and its `path`. Failed runs stand in it; RequestError when all
    failed because the request was wrong.
    """
    worker = Worker(asked, notify)
    cells = worker.cells
    first = worker.plan(worker.steps(cells[0], asked.seeds[0])[0])
    notify(first.notes[0].replace(f" · method {first.request.method}", ""))
    if dry_run:
        return _ahead(worker)
    folder = (
        Path(out)
        if out
        else Path(asked.base.runs) / "compare" / f"{_label(asked)}-{_identity(asked)[:12]}"
    )
    try:  # not after hours of runs
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"{'--out' if out else '--runs'} {folder}: cannot be written ({error.strerror})"
        ) from error
    started = time.monotonic()
    done = []
    for number, cell in enumerate(cells):
        notify(f"[{number + 1}/{len(cells)}] {cell}")
        done.append(worker.run(cell))
    failures = [failure for each in done for failure in each.failures]
    if not any(each.runs for each in done):
        texts = "\n".join(dict.fromkeys(failure["error"] for failure in failures))
        raise (RequestError if all(failure["wrong_request"] for failure in failures) else RunError)(
            texts
        )
    record = _record(asked, worker, done, command)
    record["seconds"] = round(time.monotonic() - started, 3)
    said = [f"{note[0].upper()}{note[1:]}." for note in record["no_evidence"]]
    caption = [f"Bars: {LEVEL:.0%} t-intervals over seeds.", *said]
    if record["device"] == "cpu":
        caption.insert(1, "Peak memory is that of a run's whole process, libraries included.")
    files = plots.scatter(record["rows"], folder, title=record["title"], caption="\n".join(caption))
    record["plots"] = [file.name for file in files]
    write_json(folder / "comparison.json", record)
    shown: Shown = [
        *comparison_tables.table(record),
        *comparison_tables.published(record["published"]),
    ]
    shown.append(f"comparison: {folder}")
    return {"path": str(folder), **record}, shown


def _label(asked: Comparison) -> str:
    return ALL if asked.skip_lacking else "+".join(asked.tasks)[:60]


def _identity(asked: Comparison) -> str:
    base = asked.base
    return digest(
        {
            "tasks": list(asked.tasks),
            "variants": [[each.method, each.bits] for each in asked.variants],
            "chains": [list(chain) for chain in asked.chains],
            "seeds": list(asked.seeds),
            "tuning": _tuning(asked.tuning),
            "base": {
                name: value
                for name, value in vars(base).items()
                if name
                not in (
                    "task",
                    "on",
                    "method",
                    "bits",
                    "seed",
                    "runs",
                    "overrides",
                    "parent_overrides",
                )
                and (name, value) != ("memory", None)
            },
            "overrides": [list(each) for each in base.overrides],
            "parent_overrides": [list(each) for each in base.parent_overrides],
            "own": {method: [list(each) for each in found] for method, found in asked.own.items()},
            "own_parents": {
                method: [list(each) for each in found]
                for method, found in asked.own_parents.items()
            },
        }
    )


def _tuning(tuning: Tuning | None) -> dict[str, Any] | None:
    if tuning is None:
        return None
    return {
        "trials": {
            method: [dict(values) for values in trials] for method, trials in tuning.trials.items()
        },
        "seeds": list(tuning.seeds),
        "chosen_on": "select",
    }


def _record(
    asked: Comparison, worker: Worker, done: Sequence[Done], command: str
) -> dict[str, Any]:
    cells: dict[tuple[str, str, str, tuple[str, ...]], dict[str, Any]] = {}
    bare: dict[
        str, dict[str, Any]
    ] = {}  # run → the one row of a backbone that is the same under several methods
    for each in done:
        if not each.runs:
            continue
        cell = each.cell
        found = row(
            each.runs,
            worker.store,
            method=cell.variant.method,
            chain=cell.chain,
            trains=cell.trains,
            level=LEVEL,
            settings=worker.settings(cell),
            trials=each.trials,
            chosen=dict(each.chosen) if each.chosen is not None else None,
        )
        if cell.bare:
            found = bare.setdefault(found["runs"][0]["run"], found)
        cells[cell.task, cell.variant.method, cell.variant.bits, cell.chain] = found
    rows = list({id(found): found for found in cells.values()}.values())
    differences(cells, LEVEL)
    planned = worker.plan(worker.steps(worker.cells[0], asked.seeds[0])[0])
    compared_tasks = [task for task in asked.tasks if task not in worker.left_out]
    return {
        "kind": "comparison",
        "id": _identity(asked)[:12],
        "command": command,
        "title": (
            f"{_label(asked)} · {planned.backbone.name} · {_source(planned)} data · "
            f"{len(asked.seeds)} seed{'s' if len(asked.seeds) > 1 else ''}"
        ),
        "tasks": compared_tasks,
        "seeds": list(asked.seeds),
        "level": LEVEL,
        "device": planned.device,
        "backbone": {"name": planned.backbone.name, "fingerprint": planned.backbone.fingerprint},
        "data": _source(planned),
        "protocol": asked.base.protocol,
        "tuning": _tuning(asked.tuning),
        "rows": rows,
        "averages": averages(cells, compared_tasks, LEVEL),
        "failed": [failure for each in done for failure in each.failures],
        "left_out": dict(worker.left_out),
        "no_evidence": _no_evidence(planned),
        "notes": _notes(asked, rows, worker, planned),
        "published": published.record(compared_tasks),
        "provenance": machine.record(),
    }


def _source(planned: Plan) -> str:
    return "mirror" if planned.source.kind == "mirror" else str(planned.source)


def _no_evidence(planned: Plan) -> list[str]:
    return [
        NO_EVIDENCE[key]
        for key in (planned.source.kind, planned.backbone.name)
        if key in NO_EVIDENCE
    ]


def _notes(
    asked: Comparison, rows: Sequence[Mapping[str, Any]], worker: Worker, planned: Plan
) -> list[str]:
    notes = _no_evidence(planned)
    seeds = ", ".join(map(str, asked.seeds))
    notes.append(
        f"scores: mean over seeds {seeds} and its {LEVEL:.0%} t-interval; gaps are paired over the"
        " seeds, and inconclusive when the interval includes 0 or there is one seed"
    )
    for flag, every, own in (
        ("--set", asked.base.overrides, asked.own),
        ("--set-parents", asked.base.parent_overrides, asked.own_parents),
    ):
        given = [f"{key}={value}" for key, value in every]
        given += [
            f"{method}:{key}={value}" for method, found in own.items() for key, value in found
        ]
        if given:
            notes.append(f"not the recipes' settings ({flag}): {', '.join(given)}")
    if asked.tuning:
        counts = len(next(iter(asked.tuning.trials.values())))
        notes.append(
            f"tuned: {counts} trials a row, the same number for every method, chosen on the select"
            f" split with seed {', '.join(map(str, asked.tuning.seeds))}; parents are not tuned"
        )
    if any(each["compose"] == "stack" for each in rows):
        notes.append(
            "a stack adds capacity (sequential for bottleneck, additive for LoRA): only init, a"
            " copy of its parent that goes on training, matches the paper's single set of"
            " parameters"
        )
    if any(each["selected_on"] for each in rows):
        notes.append("rows that are reported also chose checkpoints: such scores are optimistic")
    if any(each["trained_task"] not in (None, each["task"]) for each in rows):
        notes.append(
            "parameters, bytes, memory and seconds are those of the module that is scored, also"
            " where another task trained it"
        )
    if planned.device == "cpu":
        notes.append("peak memory on the CPU is that of a run's whole process, libraries included")
    if asked.base.memory is not None:
        notes.append(
            f"--memory {asked.base.memory:g}: smaller micro-batches and checkpointing cost seconds;"
            " a run's provenance.json says which it was given"
        )
    if any(each["energy_joules"] is not None for each in rows):
        notes.append(
            "energy is what the device reports for the time of the training, other processes on it"
            " included"
        )
    return [
        *notes,
        *unequal(rows),
        *(f"left out: {task}: {why}" for task, why in worker.left_out.items()),
    ]


def _ahead(worker: Worker) -> tuple[dict[str, Any], Shown]:
    """The runs that a comparison comes to, each module once, with what is in the store and what it
    will take.
    """
    known = forecast.speeds(worker.store, worker.comparison.base.device)
    runs: dict[str, dict[str, Any]] = {}
    for cell, kind, seed, values, planned in worker.ahead():
        common = {
            "task": cell.task,
            "method": cell.variant.method,
            "bits": cell.variant.bits,
            "parents": list(cell.chain),
            "kind": kind,
            "seed": seed,
            "values": dict(values),
            "settings": worker.settings(cell),
            "stack": ">".join([*cell.chain, cell.task]),
            "predicted_training_seconds": None,
            "predicted_memory_bytes": None,
        }
        if planned is None:
            runs[f"{cell} {kind} {seed}"] = {
                **common,
                "id": None,
                "state": "after the trials" if worker.comparison.tuning else "after its parents",
            }
            continue
        for module in planned.modules:
            path = has(module, worker.store)
            own = planned.inline and module is planned.target
            entry = {
                **common,
                "id": module.id,
                "task": module.task,
                "stack": str(module),
                "bits": module.run.bits,
                "parents": [parent.task for parent in module.parents],
                "kind": kind if own else "parent",
                "values": dict(values) if module is planned.target else {},
                "settings": worker.settings(
                    cell, parent=kind == "parent" or module is not planned.target
                ),
                "state": "in the store" if path else "would train",
            }
            if not path and module.run.tasks:
                remote = planned.source.kind == "hub"
                entry["predicted_training_seconds"] = forecast.seconds(module, known, remote=remote)
                entry["predicted_memory_bytes"] = forecast.peak_bytes(planned, module)
            elif not path:  # the control `random`: drawn, not trained
                entry["predicted_training_seconds"] = 0.0
            runs.setdefault(module.id, entry)
            if own:
                runs[module.id]["kind"] = kind
        if not planned.inline:
            there = worker.store.find(planned.task, planned.evaluation.id) is not None
            method = "none" if planned.target is None else cell.variant.method
            runs.setdefault(
                planned.evaluation.id,
                {
                    **common,
                    "id": planned.evaluation.id,
                    "method": method,
                    "bits": planned.bits,
                    "kind": "evaluation",
                    "stack": f"{cell.task} by {planned.target or 'the bare backbone'}",
                    "state": "in the store" if there else "would score",
                },
            )
    found = list(runs.values())
    missing = [
        run for run in found if run["state"] != "in the store" and run["kind"] != "evaluation"
    ]
    times = [
        run["predicted_training_seconds"]
        for run in missing
        if run["predicted_training_seconds"] is not None
    ]
    total = {
        "runs": len(found),
        "in_store": sum(run["state"] == "in the store" for run in found),
        "predicted_training_seconds": sum(times) if times or not missing else None,
        "complete": len(times) == len(missing),
        "predicted_memory_bytes": (
            max((run["predicted_memory_bytes"] or 0 for run in missing), default=0) or None
        ),
    }
    payload = {"dry_run": True, "runs": found, "total": total, "left_out": dict(worker.left_out)}
    return payload, comparison_tables.ahead(found, total)
