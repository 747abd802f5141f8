"""What each command does: requests in, a JSON-ready payload and something to print out."""

from __future__ import annotations

import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table

from adapters_xtl import fingerprint, methods, plan, tables, tasks
from adapters_xtl.data import Part, Reader, count, read_training
from adapters_xtl.errors import DataError, Problems, RequestError, nearest
from adapters_xtl.request import Plan, Request
from adapters_xtl.snapshots import Missing
from adapters_xtl.sources import Located, Source, locate, locate_report, locate_training, open_source
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
    """English train rows (a number, or words for why there is none) and report languages that a source has."""
    if task.format == "multi":
        return {"train": "members'", "languages": ["en"]}
    train = f"from {task.train_from}" if task.train_from else "none"
    if task.train:
        try:
            files = locate_training(source, task, "clean", tasks.load)
            # on the hub a count would cost a download
            train = "there" if source.kind == "hub" else str(count(files.train, task.code("en")))
        except Missing:
            train = "lacking"
        except DataError:
            train = "damaged"
    languages: dict[str, None] = {}
    for split in list(task.report)[: 1 if source.kind == "embedded" else None]:
        try:
            found, _ = locate_report(source, task, split, task.all_languages)
            languages |= {
                code: None for code, files in found.items() if source.kind == "hub" or _has(files, task.code(code))
            }
        except DataError:
            train += " (damaged)"
    return {"train": train, "languages": list(languages)}


def _has(located: Sequence[Located], code: str) -> bool:
    """Whether rows of a language are there, which for files of several languages only their rows tell."""
    return not any(each.rows.language for each in located) or count(located, code) > 0


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
    lacking: dict[str, dict[str, list[str]]] = {}
    places: list[tuple[str, str]] = []
    started = time.monotonic()
    for each in [name] if name else tasks.names():
        task = tasks.load(each)
        if task.format == "multi":
            continue
        without = lacking.setdefault(each, {})
        for split, language, part in _splits(task, source, Reader(places=limit), errors, without, named=name is not None):
            trouble = part.faults + part.kept
            places += part.places
            entries.append({"task": each, "split": split, "language": language, "data": part.forms[0],
                            "rows": part.rows, "usable": len(part.examples), "unfit": dict(trouble),
                            "labels": _labels(task, part)})  # fmt: skip
            rows.append((each, split, language, part.rows, len(part.examples), _shares(task, part), _lengths(task, part),
                         ", ".join(f"{number} × {reason}" for reason, number in trouble.items()) or "-"))  # fmt: skip
    if not rows and not errors:
        errors.append(f"{source}: nothing of {name or 'any task'} is there")
    errors = list(dict.fromkeys(errors))
    lacking = {each: without for each, without in lacking.items() if without}
    unfit = sum(sum(entry["unfit"].values()) for entry in entries)
    seconds = time.monotonic() - started
    total = sum(entry["rows"] for entry in entries)
    shown: Shown = [tables.checked(rows)] if rows else []
    shown += [f"{place}: {reason}" for place, reason in places[:limit]]
    shown += [f"not there: {each}: " + "; ".join(f"{split} {' '.join(names)}" for split, names in without.items())
              for each, without in lacking.items()]  # fmt: skip
    shown += [f"error: {error}" for error in errors]
    shown.append(f"{total:,} rows, {unfit:,} unfit, {len(errors)} errors, {total / max(seconds, 1e-9):,.0f} rows/s")
    payload = {"source": str(source), "splits": entries, "unfit": unfit, "errors": errors, "lacking": lacking,
               "places": [list(place) for place in places[:limit]]}  # fmt: skip
    return payload, shown


def _splits(task: Task, source: Source, reader: Reader, errors: list[str], lacking: dict[str, list[str]],
            *, named: bool) -> list[tuple[str, str, Part]]:  # fmt: skip
    """(split, language, part) of every set of rows that the source has, each read once.

    What is broken goes into `errors`, what is not there into `lacking`: an error too where the task was asked for by name,
    or where a training has one half without the other.
    """
    found: list[tuple[str, str, Located]] = []
    absent: list[Missing] = []

    def failed(error: DataError, split: str, what: str) -> None:
        if isinstance(error, Missing):
            lacking.setdefault(split, []).append(what)
        else:
            errors.extend(re.split(r"\n(?!  )", str(error)))

    for split in list(task.report)[: 1 if source.kind == "embedded" else None]:
        complaints: dict[str, str] = {}
        for language in task.all_languages:
            try:
                there, without = locate_report(source, task, split, [language])
            except DataError as error:
                failed(error, split, language)
                continue
            found += [(split, language, located) for group in there.values() for located in group]
            complaints |= without
        if complaints:
            lacking.setdefault(split, []).extend(complaints)
        if named and len(complaints) == len(task.all_languages) and split == next(iter(task.report)):
            errors.extend(list(dict.fromkeys(complaints.values()))[:1])
    reported = {tuple(file.name for group in located.files.values() for file in group) for _, _, located in found}
    training = 0
    for split, wanted in (("train", task.train), ("select", task.select)):
        for rows in wanted if source.kind != "embedded" else ():
            try:
                located = locate(source, rows, task.code("en"))
            except DataError as error:
                absent += [error] if isinstance(error, Missing) else []
                failed(error, split, rows.repo)
                continue
            training += 1
            if tuple(file.name for group in located.files.values() for file in group) not in reported:
                found.append((split, "en", located))
    if task.train and source.kind == "embedded":
        files = locate_training(source, task, "clean", tasks.load)
        found += [("train", "en", files.train[0]), *([("select", "en", files.select[0])] if task.kind == "target" else [])]
    if named or (training and not any(error.whole for error in absent)):
        errors.extend(map(str, absent))
    parts: list[tuple[str, str, Part]] = []
    for split, language, located in found:
        kind = split if split in ("train", "select") else "report" if task.kind == "target" else "select"
        try:
            part = reader.part(task, [located], split=kind, language=language, scoring=kind != "train")
            parts.append((split, language, part))
        except DataError as error:
            failed(error, split, language)
    return parts


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
