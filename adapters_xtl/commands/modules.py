"""`xtl evaluate`, `xtl predict`, `xtl score`: what is done with a trained module."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import IO, Any

from rich.table import Table

from adapters_xtl import export, lineage, plan, scoring, tables, tasks
from adapters_xtl.answer import from_store
from adapters_xtl.canon import read_json, say_disk_full
from adapters_xtl.errors import DataError, Problems, RequestError
from adapters_xtl.inputs import example
from adapters_xtl.request import Request
from adapters_xtl.store import Store, verify

__all__ = ["evaluate", "predict", "score"]

Notify = Callable[[str], None]
Shown = list[Table | str]
CHUNK = 256  # lines predicted together: enough to batch by length, few enough to stream


def evaluate(asked: Request, module: str, *, layer: str, form: str, out: Path | None, force: bool,
             notify: Notify) -> tuple[dict[str, Any], Shown]:  # fmt: skip
    """Scores a module on a task's rows; the payload is the contract's, and the files of an export."""
    store = Store(Path(asked.runs))
    planned = plan.evaluate(asked, module, store, layer=layer, notify=notify)
    if form:
        export.check(form, list(planned.evaluation.files), planned.source.kind)
        if out is None:
            raise RequestError(f"--export {form}: expected a directory after it")
    for note in planned.notes:
        notify(note)
    outcome = None if force else from_store(planned, store)
    if outcome is None:
        from adapters_xtl import experiment

        if planned.backbone.source in ("embedded", "random"):
            from adapters_xtl import mini

            mini.prepare(notify)
        outcome = experiment.execute(planned, store, notify=notify, force=force)
    payload = {"id": outcome.id, "path": str(outcome.path), "reused": outcome.reused, "seconds": outcome.seconds,
               "metrics": outcome.metrics}  # fmt: skip
    shown: Shown = [*tables.result(outcome.metrics), *tables.cost(outcome.path)]
    if out is not None:
        written = export.export(outcome.path, out)
        payload["exported"] = [str(path) for path in written]
        shown.append(f"exported: {len(written)} files under {out}")
    shown.append(f"run: {outcome.path}" + (" (from the store)" if outcome.reused else ""))
    return payload, shown


def score(run: str, runs: str) -> tuple[dict[str, Any], Shown]:
    """Scores the predictions of a finished run again, without a model, and holds them against what it recorded."""
    path = lineage.find(run, Store(Path(runs)))
    if path is None:
        raise RequestError(f"{run}: no run directory and no run id")
    verify(path, only=("predictions/", "metrics.json"))
    recorded = read_json(path / "metrics.json")
    if not recorded["tasks"]:
        raise RequestError(f"{run}: an untrained module; it has no predictions")
    entries = {}
    for name, entry in recorded["tasks"].items():
        task = tasks.load(name)
        languages = {language: scoring.score(task, _read(path, name, language), language) for language in entry["languages"]}
        entries[name] = {**entry, **scoring.entry(task, entry["split"], languages)}
    found = scoring.together(entries)
    equal = abs(found["score"] - recorded["score"]) < 1e-9
    payload = {"id": path.name, "path": str(path), "metrics": {**found, "train": recorded["train"]},
               "recorded": recorded["score"], "equal": equal}  # fmt: skip
    said = "as recorded" if equal else f"recorded was {recorded['score']:.4f}"
    return payload, [*tables.result(found), f"scored from predictions alone: {found['score']:.4f}, {said}"]


def _read(run: Path, task: str, language: str) -> list[dict[str, Any]]:
    path = run / "predictions" / task / f"{language}.jsonl"
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def predict(module: str, source: str, out: Path | None, *, task: str, skip_bad: bool, layer: int | None, runs: str,
            backbone: str | None, device: str, allow_mismatch: bool, notify: Notify) -> dict[str, Any]:  # fmt: skip
    """Lines of JSON → predictions, a line each as they come; with `-o X.npy`, embeddings of each line's text.

    A line that cannot be answered is an error with its number, or with `skip_bad` reported and left out.
    """
    if source != "-" and not Path(source).is_file():
        raise RequestError(f"{source}: no such file")
    if layer is not None and (out is None or out.suffix != ".npy"):
        raise RequestError("--layer is for embeddings: -o FILE.npy")
    from adapters_xtl import mini, predictor

    mini.prepare(notify)
    model = predictor.load(module, task=task, backbone=backbone, device=device, runs=runs, allow_mismatch=allow_mismatch)
    embed = out is not None and out.suffix == ".npy"
    if not embed and not model.head:
        raise RequestError(f"{module}: no head for '{model.task}'; -o FILE.npy writes embeddings")
    reading = _Lines(source, "tatoeba" if embed else model.task, embed or model.pairs, skip_bad, notify)
    aside = out.with_name(f".{out.name}.{os.getpid()}") if out is not None else None
    count = 0
    try:
        with ExitStack() as stack:
            lines: IO[str] = sys.stdin
            if source != "-":
                lines = stack.enter_context(open(source, encoding="utf-8", errors="surrogateescape"))
            if embed and aside is not None:
                import numpy as np

                found = [model.embed([each["text"] for _, each in chunk], layer=layer) for chunk in reading.chunks(lines)]
                count = sum(len(each) for each in found)
                if not found:
                    raise DataError(f"{source}: no line to embed")
                with say_disk_full(aside), aside.open("wb") as file:
                    np.save(file, np.concatenate(found), allow_pickle=False)
            else:
                target = stack.enter_context(open(aside, "w", encoding="utf-8")) if aside else sys.__stdout__
                assert target is not None
                for chunk in reading.chunks(lines):
                    answers = model.predict([each for _, each in chunk])
                    for (number, _), answer in zip(chunk, answers, strict=True):
                        target.write(json.dumps({"line": number, **answer}, ensure_ascii=False) + "\n")
                    target.flush()
                    count += len(chunk)
        if aside is not None and out is not None:
            os.replace(aside, out)
    finally:
        if aside is not None:
            aside.unlink(missing_ok=True)
    notify(f"{count} lines answered" + (f", {reading.bad} skipped" if reading.bad else "") + (f": {out}" if out else ""))
    return {"answered": count, "skipped": reading.bad, "out": str(out) if out else None}


class _Lines:
    """Examples of a JSONL stream, in chunks, each with the number of its line (from 1)."""

    def __init__(self, name: str, task: str, pairs: bool, skip_bad: bool, notify: Notify) -> None:
        self.name, self.task, self.pairs, self.skip_bad, self.notify = name, tasks.load(task), pairs, skip_bad, notify
        self.bad = 0

    def chunks(self, lines: IO[str]) -> Iterator[list[tuple[int, dict[str, Any]]]]:
        numbered = enumerate(lines, 1)
        while block := list(islice(numbered, CHUNK)):
            problems = Problems()
            found = []
            for number, line in block:
                try:
                    if line.strip():
                        found.append((number, example(self.task, json.loads(line), pairs=self.pairs)))
                except (DataError, ValueError, RecursionError) as error:
                    reason = str(error) if isinstance(error, DataError) else "not a line of JSON"
                    problems.add(f"{self.name}: line {number}: {reason}")
            self.bad += len(problems.messages)
            if problems.messages and not self.skip_bad:
                problems.add("--skip-bad leaves such lines out")
                problems.raise_if_any(DataError)
            for message in problems.messages:
                self.notify(f"skipped: {message}")
            if found:
                yield found
