"""`xtl evaluate`, `xtl predict`, `xtl score`: what is done with a trained module."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from rich.table import Table

from adapters_xtl import tasks
from adapters_xtl.backbones import registry
from adapters_xtl.base.errors import DataError, Problems, RequestError
from adapters_xtl.base.files import explained_os_errors
from adapters_xtl.base.typed_json import to_json
from adapters_xtl.evaluation import scoring, xtreme_export
from adapters_xtl.evaluation.inputs import example_of
from adapters_xtl.evaluation.scoring import predictions
from adapters_xtl.pages import tables
from adapters_xtl.planning.finished import chosen_head, plan_scoring, serve
from adapters_xtl.runs.lookup import from_store
from adapters_xtl.runs.request import Request
from adapters_xtl.runs.store import Store, verify
from adapters_xtl.runs.stored import is_run, read_run
from adapters_xtl.sharing import lineage

__all__ = ["evaluate", "predict", "score"]

Notify = Callable[[str], None]
Shown = list[Table | str]
CHUNK = 256  # lines predicted together: enough to batch by length, few enough to stream
PAUSE = 0.05  # seconds without a line, after which those that came are answered


def evaluate(
    request: Request,
    module: str,
    *,
    layer: str,
    form: str,
    out: Path | None,
    force: bool,
    notify: Notify,
) -> tuple[dict[str, Any], Shown]:
    """Scores a module on a task's rows; the payload is the contract's, and the files of
    an export.
    """
    store, problems, planned = Store(Path(request.runs)), Problems(), None
    with problems.catching():
        planned = plan_scoring(request, module, store, layer=layer, notify=notify)
    if form:
        names = (
            list(planned.evaluation.files)
            if planned
            else [request.task]
            if request.task in tasks.names()
            else []
        )
        with problems.catching():
            xtreme_export.check(form, names, planned.source.kind if planned else "", out)
    problems.raise_if_any()
    assert planned is not None
    for note in planned.notes:
        notify(note)
    outcome = None if force else from_store(planned, store)
    if outcome is None:
        from adapters_xtl import experiment

        if planned.backbone.source in ("embedded", "random"):
            from adapters_xtl.backbones import embedded

            embedded.prepare(notify)
        outcome = experiment.execute(planned, store, notify=notify, force=force)
    payload = {
        "id": outcome.id,
        "path": str(outcome.path),
        "reused": outcome.reused,
        "seconds": outcome.seconds,
        "metrics": to_json(outcome.metrics),
    }
    shown: Shown = [*tables.result(to_json(outcome.metrics)), *tables.cost(outcome.path)]
    if form and out is not None:
        written = xtreme_export.export(outcome.path, out)
        payload["exported"] = [str(path) for path in written]
        shown.append(f"exported: {len(written)} files under {out}")
    shown.append(f"run: {outcome.path}" + (" (from the store)" if outcome.reused else ""))
    return payload, shown


def score(run: str, runs: str) -> tuple[dict[str, Any], Shown]:
    """Scores the predictions of a finished run again, without a model, and compares the score with
    the recorded one.
    """
    path = lineage.find(run, Store(Path(runs)))
    if path is None or not is_run(path):
        what = "a bundle, which holds no predictions" if path else "no run directory and no run id"
        raise RequestError(f"{run}: {what}")
    verify(path, only=("predictions/",))
    recorded = to_json(read_run(path).metrics)
    if not recorded["tasks"]:
        raise RequestError(f"{run}: an untrained module; it has no predictions")
    entries = {}
    for name, entry in recorded["tasks"].items():
        task = tasks.load(name)
        languages = {
            language: scoring.score(task, predictions(path, name, language), language)
            for language in entry["languages"]
        }
        entries[name] = {**entry, **scoring.entry(task, entry["split"], languages)}
    metrics = scoring.together(entries)
    equal = abs(metrics["score"] - recorded["score"]) < 1e-9
    payload = {
        "id": path.name,
        "path": str(path),
        "metrics": {**metrics, "train": recorded["train"]},
        "recorded": recorded["score"],
        "equal": equal,
    }
    comparison = "as recorded" if equal else f"recorded was {recorded['score']:.4f}"
    return payload, [
        *tables.result(metrics),
        f"scored from predictions alone: {metrics['score']:.4f}, {comparison}",
    ]


def predict(
    module: str,
    source: str,
    out: Path | None,
    *,
    task: str,
    skip_bad: bool,
    layer: int | None,
    runs: str,
    backbone: str | None,
    device: str,
    allow_mismatch: bool,
    notify: Notify,
) -> dict[str, Any]:
    """Answers lines of JSON: one prediction a line, as they come, or with `-o X.npy` the embedding
    of each line's text.

    A line that cannot be answered is an error with its number, or with `skip_bad` reported and left
    out.
    """
    embed, problems = out is not None and out.suffix == ".npy", Problems()
    _check_files(source, out, problems)
    if layer is not None and not embed:
        problems.add("--layer is for embeddings: -o FILE.npy")
    request = Request(
        task=task or ("tatoeba" if embed else ""),
        backbone=backbone,
        device=device,
        runs=runs,
        allow_mismatch=allow_mismatch,
    )
    store = Store(Path(runs))
    served, head = None, ""
    with problems.catching():
        served = serve(request, module, store, notify=notify)
        if not embed:
            head = chosen_head(served.plan.task, served.heads, module)
            if not head:
                problems.add(
                    f"{module}: no head for '{served.plan.task}'; -o FILE.npy writes embeddings"
                )
    if served and layer is not None:
        layers = int(registry.config(served.plan.backbone)["num_hidden_layers"])
        if not 0 <= layer <= layers:
            problems.add(f"--layer {layer}: takes 0 (embeddings) to {layers}")
    problems.raise_if_any()
    assert served is not None
    from adapters_xtl import predictor
    from adapters_xtl.backbones import embedded

    if served.plan.backbone.source in ("embedded", "random"):
        embedded.prepare(notify)
    model = predictor.Predictor(served.plan, store, head)
    reading = _Lines(source, "tatoeba" if embed else model.task, skip_bad, notify)
    final = out.resolve() if out is not None and _regular(out) else None  # behind links: they stay
    unfinished = final.with_name(f".{final.name}.{os.getpid()}") if final else None
    count = 0
    try:
        with ExitStack() as stack:
            chunks = reading.chunks(
                sys.stdin.buffer if source == "-" else stack.enter_context(open(source, "rb"))
            )
            if embed and out is not None:
                import numpy as np

                vectors = [
                    model.embed([example["text"] for _, example in chunk], layer=layer)
                    for chunk in chunks
                ]
                count = sum(len(rows) for rows in vectors)
                if not vectors:
                    raise DataError(f"{source}: no line to embed")
                with explained_os_errors(out), (unfinished or out).open("wb") as file:
                    np.save(file, np.concatenate(vectors), allow_pickle=False)
            else:
                place: Any = (
                    unfinished or out or 1
                )  # JSON is UTF-8, whatever the terminal's encoding
                target = stack.enter_context(open(place, "w", encoding="utf-8", closefd=place != 1))
                for chunk in chunks:
                    answers = model.predict([example for _, example in chunk])
                    with explained_os_errors(out or Path("stdout")):
                        for (number, _), answer in zip(chunk, answers, strict=True):
                            target.write(
                                json.dumps({"line": number, **answer}, ensure_ascii=False) + "\n"
                            )
                        target.flush()
                    count += len(chunk)
        if unfinished is not None and final is not None:
            os.replace(unfinished, final)
    except (
        BrokenPipeError
    ):  # who reads the answers has seen enough; nothing more can be written, at exit neither
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    finally:
        if unfinished is not None:
            unfinished.unlink(missing_ok=True)
    notify(
        f"{count} lines answered"
        + (f", {reading.bad} skipped" if reading.bad else "")
        + (f": {out}" if out else "")
    )
    return {"answered": count, "skipped": reading.bad, "out": str(out) if out else None}


def _check_files(source: str, out: Path | None, problems: Problems) -> None:
    """What can be wrong with the files of a request, before a model is loaded."""
    if source == "-":
        if sys.stdin is None:
            problems.add("stdin is closed: name a file of JSON lines")
    elif os.path.isdir(source):
        problems.add(f"{source}: a directory, not a file of JSON lines")
    elif not os.access(source, os.R_OK):
        problems.add(f"{source}: {'cannot be read' if os.path.exists(source) else 'no such file'}")
    if out is not None:
        if os.path.isdir(out):
            problems.add(f"-o {out}: a directory, not a file")
        elif not os.path.isdir(out.parent):
            problems.add(f"-o {out}: no directory {out.parent}")
        elif not os.access(out.parent if _regular(out) else out, os.W_OK):
            problems.add(f"-o {out}: cannot be written")


def _regular(path: Path) -> bool:
    """Whether a path is, or can become, an ordinary file; a pipe or a device is written as is."""
    return not os.path.exists(path) or os.path.isfile(path)


def _blocks(file: IO[bytes]) -> Iterator[list[bytes]]:
    """Lines of a file or a pipe: CHUNK at once, or as many as there are when whoever writes them
    pauses.
    """
    handle = file.fileno()
    lines: list[bytes] = []
    parts: list[bytes] = []
    while data := os.read(handle, 1 << 16):
        first, *rest = data.split(b"\n")
        parts.append(first)
        if rest:
            lines += [b"".join(parts), *rest[:-1]]
            parts = [rest[-1]]
        while len(lines) >= CHUNK:
            yield lines[:CHUNK]
            del lines[:CHUNK]
        if lines and not select.select([handle], [], [], PAUSE)[0]:
            yield lines
            lines = []
    lines.append(b"".join(parts))
    yield lines


class _Lines:
    """Examples of a JSONL stream, in chunks, each with the number of its line (from 1)."""

    def __init__(self, name: str, task: str, skip_bad: bool, notify: Notify) -> None:
        self.name, self.task = name, tasks.load(task)
        self.skip_bad, self.notify = skip_bad, notify
        self.bad = 0

    def chunks(self, file: IO[bytes]) -> Iterator[list[tuple[int, dict[str, Any]]]]:
        start = 1
        for block in _blocks(file):
            problems = Problems()
            examples = []
            for number, line in enumerate(block, start):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                    if text:
                        examples.append((number, example_of(self.task, json.loads(text))))
                except (DataError, ValueError, RecursionError) as error:
                    reason = (
                        "not in UTF-8"
                        if isinstance(error, UnicodeDecodeError)
                        else "not a line of JSON"
                    )
                    problems.add(
                        f"{self.name}: line {number}:"
                        f" {error if isinstance(error, DataError) else reason}"
                    )
            start += len(block)
            self.bad += len(problems.messages)
            if problems.messages and not self.skip_bad:
                problems.add("--skip-bad leaves such lines out")
                problems.raise_if_any(DataError)
            for message in problems.messages:
                self.notify(f"skipped: {message}")
            if examples:
                yield examples
