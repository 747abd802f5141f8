"""What each command does: requests in, a JSON-ready payload and something to print out."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table

from adapters_xtl import fingerprint, methods, plan, tables, tasks
from adapters_xtl.data import Part, Reader, read_report, read_training
from adapters_xtl.errors import DataError, Problems, RequestError, nearest
from adapters_xtl.request import Plan, Request
from adapters_xtl.sources import Source, locate_report, locate_training, open_source
from adapters_xtl.spec import PROTOCOLS, Task, parse_override
from adapters_xtl.store import Store

__all__ = ["backbones_table", "check_data", "import_data", "recipe", "request", "runs_table", "tasks_table"]

Notify = Callable[[str], None]
Shown = list[Table | str]


def request(*, on: str, set_: Sequence[str], set_parents: Sequence[str], **options: Any) -> Request:
    """Flags → a request; every malformed override is reported at once."""
    problems = Problems()

    def overrides(texts: Sequence[str], flag: str) -> tuple[tuple[str, Any], ...]:
        found = []
        for text in texts:
            try:
                found.append(parse_override(text, flag))
            except RequestError as error:
                problems.catch(error)
        return tuple(found)

    own, parents = overrides(set_, "--set"), overrides(set_parents, "--set-parents")
    problems.raise_if_any()
    names = tuple(name.strip() for name in on.split(",") if name.strip())
    return Request(on=names, overrides=own, parent_overrides=parents, **options)


def recipe(asked: Request, *, baseline: bool, force: bool, dry_run: bool, notify: Notify) -> tuple[dict[str, Any], Shown]:
    """Runs a recipe. The payload is the contract's: id, path, reused, seconds, metrics."""
    store = Store(Path(asked.runs))
    declared = {name: methods.load(name) for name in methods.names()}
    try:
        planned = plan.make(asked, declared, store=store)
    except RequestError as error:
        raise RequestError("\n".join([str(error), *_data_problems(asked, str(error))])) from error
    bare = plan.make(replace(asked, on=(), compose=None), declared, store=store) if baseline and asked.on else None
    for note in planned.notes:
        notify(note)
    if dry_run:
        return _dry(planned, store)
    outcome = _execute(planned, store, notify, force)
    payload = {"id": outcome.id, "path": str(outcome.path), "reused": outcome.reused, "seconds": outcome.seconds,
               "metrics": outcome.metrics}  # fmt: skip
    other = None
    if bare is not None:
        notify("baseline: the same task without parents")
        other = _execute(bare, store, notify, force)
        payload["baseline"] = {"id": other.id, "path": str(other.path), "metrics": other.metrics}
    shown: Shown = [*tables.result(outcome.metrics, other.metrics if other else None)]
    trained = outcome.metrics["train"]
    if trained:
        shown.append(f"trained {trained['trainable_parameters']:,} of {trained['total_parameters']:,} parameters, "
                     f"{trained['steps']} steps, {trained['seconds']:.0f} s")  # fmt: skip
    shown.append(f"run: {outcome.path}" + (" (from the store)" if outcome.reused else ""))
    return payload, shown


def _data_problems(asked: Request, said: str) -> list[str]:
    """What is wrong with the rows of a request that is wrong already: all of it is said at once."""
    problems = Problems()
    try:
        task, source = tasks.load(asked.task), open_source(asked.data or "embedded")
        if task.train and asked.protocol in PROTOCOLS:
            files = locate_training(source, task, asked.protocol, tasks.load)
            read_training(Reader(strict=asked.strict), task, files, tasks.load)
    except RequestError as error:
        problems.catch(error)
    return [message for message in problems.messages if message not in said]


def _execute(planned: Plan, store: Store, notify: Notify, force: bool) -> Any:
    from adapters_xtl.answer import from_store

    started = time.monotonic()
    answered = None if force else from_store(planned, store)
    if answered is not None:
        return replace(answered, seconds=round(time.monotonic() - started, 3))
    if planned.backbone.source in ("embedded", "random"):
        from adapters_xtl import mini

        mini.prepare(notify)
    from adapters_xtl import experiment

    return experiment.execute(planned, store, notify=notify, force=force)


def _dry(planned: Plan, store: Store) -> tuple[dict[str, Any], Shown]:
    from adapters_xtl.answer import from_store, has

    have = {module.id: has(module, store) is not None for module in planned.modules}
    have[planned.evaluation.id] = from_store(planned, store) is not None
    answer = planned.target if planned.inline else None
    payload = {
        "id": answer.id if answer else planned.evaluation.id,
        "dry_run": True,
        "reused": have[planned.evaluation.id],
        "runs": [{"task": module.task, "id": module.id, "parents": list(module.run.parents), "in_store": have[module.id],
                  "spec": module.run.identity()} for module in planned.modules],
        "evaluation": planned.evaluation.record(),
        "notes": list(planned.notes),
    }  # fmt: skip
    return payload, [tables.planned(planned, have)]


def tasks_table(data: str | None) -> tuple[dict[str, Any], Table]:
    """Every task, and what the source has of it (the embedded rows by default)."""
    source = open_source(data or "embedded")
    found: dict[str, Any] = {}
    rows = []
    for name in tasks.names():
        task = tasks.load(name)
        has = _holdings(task, source)
        found[name] = {
            "kind": task.kind, "format": task.format, "title": task.title, "metric": task.metric, "group": task.group,
            "labels": list(task.labels), "languages": {key: list(codes) for key, codes in task.languages.items()},
            "data": sorted({str(part) for part in (*task.train, *(r for rs in task.report.values() for r in rs))}),
            "train_from": task.train_from or None, "members": list(task.members), "licence": task.licence, "source": has,
        }  # fmt: skip
        languages = "English" if task.kind == "intermediate" else str(len(next(iter(task.languages.values()))))
        data_name = next((part.repo for part in (*task.train, *(r for rs in task.report.values() for r in rs))), "")
        rows.append((name, task.kind, task.format, data_name or ", ".join(task.members), languages, task.metric,
                     has["train"], ", ".join(has["languages"]) or "-"))  # fmt: skip
    columns = ("task", "kind", "format", "data", "languages", "metric", "train", f"{source}: languages there")
    return {"source": str(source), "tasks": found}, tables.listed("tasks", columns, rows)


def _holdings(task: Task, source: Source) -> dict[str, Any]:
    """Train rows (a count, "from squad1", "none" or "lacking") and report languages that a source has, read from footers."""
    if task.format == "multi":
        return {"train": "members'", "languages": ["en"]}
    train = f"from {task.train_from}" if task.train_from else "none"
    if task.train:
        try:
            files = locate_training(source, task, "clean", tasks.load)
            train = str(_count(files.train, source))
        except DataError:
            train = "lacking"
    languages: dict[str, None] = {}
    for split in list(task.report)[: 1 if source.kind == "embedded" else None]:
        found, _ = locate_report(source, task, split, task.all_languages)
        languages |= dict.fromkeys(found)
    return {"train": train, "languages": list(languages)}


def _count(located: Sequence[Any], source: Source) -> int | str:
    import json

    import pyarrow.parquet as pq

    if source.kind == "hub":  # a footer would have to be downloaded
        return "there"
    total = 0
    for file in (file for each in located for group in each.files.values() for file in group):
        path = file.fetch()
        if path.suffix == ".parquet":
            total += pq.read_metadata(path).num_rows
        else:
            total += sum(json.loads(line).get("split", "train") == "train" for line in path.read_text().splitlines() if line)
    return total


def backbones_table() -> tuple[dict[str, Any], Table]:
    found = {name: {"source": each.source, "location": each.location, "note": each.note, "lr": dict(each.lr)}
             for name, each in fingerprint.NAMED.items()}  # fmt: skip
    rows = [(name, entry["source"], entry["location"], entry["note"]) for name, entry in found.items()]
    return {"backbones": found}, tables.listed("backbones", ("name", "source", "what", "note"), rows)


def runs_table(runs: str) -> tuple[dict[str, Any], Table]:
    paths = Store(Path(runs)).all()
    return {"runs": [{"task": path.parent.name, "id": path.name, "path": str(path)} for path in paths]}, tables.runs(paths)


def check_data(name: str | None, data: str, limit: int) -> tuple[dict[str, Any], Shown]:
    """Reads every split of the tasks from a source; the payload counts rows, unfit rows by reason, and errors."""
    if name is not None:
        tasks.load(name)
    source = open_source(data)
    rows: list[Sequence[Any]] = []
    entries: list[dict[str, Any]] = []
    errors: list[str] = []
    places: list[tuple[str, str]] = []
    started = time.monotonic()
    for each in [name] if name else tasks.names():
        task = tasks.load(each)
        if task.format == "multi":
            continue
        for split, language, part in _splits(task, source, Reader(places=limit), errors, complain=name is not None):
            trouble = part.faults + part.kept
            places += part.places
            entries.append({"task": each, "split": split, "language": language, "rows": part.rows,
                            "usable": len(part.examples), "unfit": dict(trouble), "labels": _labels(task, part)})  # fmt: skip
            rows.append((each, split, language, part.rows, len(part.examples), _shares(task, part), _lengths(task, part),
                         ", ".join(f"{count} × {reason}" for reason, count in trouble.items()) or "-"))  # fmt: skip
    if not rows and not errors:
        errors.append(f"{source}: nothing of {name or 'any task'} is there")
    unfit = sum(sum(entry["unfit"].values()) for entry in entries)
    seconds = time.monotonic() - started
    total = sum(entry["rows"] for entry in entries)
    shown: Shown = [tables.checked(rows)] if rows else []
    shown += [f"{place}: {reason}" for place, reason in places[:limit]]
    shown += [f"error: {error}" for error in errors]
    shown.append(f"{total:,} rows, {unfit:,} unfit, {len(errors)} errors, {total / max(seconds, 1e-9):,.0f} rows/s")
    payload = {"source": str(source), "splits": entries, "unfit": unfit, "errors": errors,
               "places": [list(place) for place in places[:limit]]}  # fmt: skip
    return payload, shown


def _splits(task: Task, source: Source, reader: Reader, errors: list[str], *, complain: bool) -> list[tuple[str, str, Part]]:
    """(split, language, part) of all that the source has; what is broken goes into `errors`."""
    found: list[tuple[str, str, Part]] = []
    if task.train:
        try:
            files = locate_training(source, task, "clean", tasks.load)
            train, select, _ = read_training(reader, task, files, tasks.load)
            found += [("train", "en", train), ("select", "en", select)]
        except DataError as error:
            if complain or "no data set" not in str(error):
                errors += str(error).split("\n")
    for split in list(task.report)[: 1 if source.kind == "embedded" else None]:
        located, lacking = locate_report(source, task, split, task.all_languages)
        if not located and complain and split == next(iter(task.report)):
            errors += list(dict.fromkeys(lacking.values()))[:1]
        for language, files_ in located.items():
            try:
                parts, _ = read_report(reader, task, {language: files_})
                found += [(split, code, part) for code, part in parts.items()]
            except DataError as error:
                errors += str(error).split("\n")
    return found


def _labels(task: Task, part: Part) -> dict[str, int]:
    """How often each label (tag, number of answers) occurs."""
    counts: Counter[str] = Counter()
    for example in part.examples:
        if task.format == "tag":
            counts.update(example["tags"])
        elif task.format == "span":
            counts["answered" if example["answers"]["text"] else "unanswerable"] += 1
        elif "label" in example:
            counts[str(example["label"])] += 1
    return dict(counts.most_common())


def _shares(task: Task, part: Part) -> str:
    counts = _labels(task, part)
    total = sum(counts.values()) or 1
    text = ", ".join(f"{label} {100 * count / total:.0f}%" for label, count in list(counts.items())[:6])
    return text + (f", … {len(counts)} in all" if len(counts) > 6 else "")


def _lengths(task: Task, part: Part) -> str:
    keys = ("text", "pair", "context", "question", "source", "target", "sentence")
    if task.format == "tag":
        lengths = [len(example["words"]) for example in part.examples]
    else:
        lengths = [sum(len(str(example.get(key) or "")) for key in keys) for example in part.examples]
    unit = "words" if task.format == "tag" else "characters"
    return f"{statistics.median(lengths):.0f}/{max(lengths)} {unit}" if lengths else "-"


def import_data(kind: str, source: Path, out: Path) -> tuple[dict[str, Any], Shown]:
    """Converts original files; see `adapters_xtl.imports`."""
    from adapters_xtl.imports import ccgbank, xtreme

    converters: Mapping[str, Callable[[Path, Path], Any]] = {"xtreme": xtreme.convert, "ccgbank": ccgbank.convert}
    if kind not in converters:
        raise RequestError(f"data import: unknown form '{kind}'{nearest(kind, converters)}")
    if not source.is_dir():
        raise RequestError(f"data import: {source} is no directory")
    report = converters[kind](source, out)
    return report.record(), [*report.shown(), *([f"mirror: {out}"] if report.written else [])]
