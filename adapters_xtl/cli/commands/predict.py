"""`xtl predict`: lines of JSON become predictions or embeddings."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from adapters_xtl import tasks
from adapters_xtl.backbones import registry
from adapters_xtl.base.errors import (
    DataError,
    Problems,
    RunError,
    XtlError,
    out_of_memory,
)
from adapters_xtl.base.files import explained_os_errors
from adapters_xtl.base.launchers import notify_ignored_launcher
from adapters_xtl.cli.commands.json_lines import JsonLines, NumberedExample
from adapters_xtl.planning.finished_modules import Served, chosen_head, serve
from adapters_xtl.runs.request import Request
from adapters_xtl.runs.store import Store

if TYPE_CHECKING:
    from adapters_xtl.predictor import Predictor

__all__ = ["PredictRequest", "predict"]

Notify = Callable[[str], None]
EMBEDS = "tatoeba"  # the task by whose rules a text is embedded
STDOUT = 1


@dataclass(frozen=True)
class PredictRequest:
    """What `xtl predict` is asked for.

    module    a run directory, a run id, a bundle directory or a hub id
    source    file of JSON lines; "-" is stdin
    out       file that is written, embeddings where it ends in .npy; None: stdout
    task      the task whose head answers; "": the module's own
    layer     hidden state that is embedded; None: the usual one
    skip_bad  lines that cannot be answered are reported and left out
    """

    module: str
    source: str
    out: Path | None
    task: str
    layer: int | None
    skip_bad: bool
    runs: str
    backbone: str | None
    device: str
    allow_mismatch: bool

    @property
    def embeds(self) -> bool:
        return self.out is not None and self.out.suffix == ".npy"


def predict(request: PredictRequest, notify: Notify) -> dict[str, Any]:
    """Answers lines of JSON, a line each as they come; or embeds each line's text.

    DataError names a line that cannot be answered; RunError says what a library failed at. A file
    is written whole or not at all.
    """
    store, problems = Store(Path(request.runs)), Problems()
    _check_files(request.source, request.out, problems)
    served, head = _served(request, store, problems, notify)
    from adapters_xtl import predictor
    from adapters_xtl.backbones import embedded

    notify_ignored_launcher(notify)
    if served.plan.backbone.source in ("embedded", "random"):
        embedded.prepare(notify)
    with _failures_explained(f"loading {request.module}"):
        model = predictor.Predictor(served.plan, store, head)
    task = tasks.load(EMBEDS if request.embeds else model.task)
    lines = JsonLines(request.source, task, request.skip_bad, notify)
    answered = 0
    try:
        with ExitStack() as stack:
            if request.source == "-":
                file: IO[bytes] = sys.stdin.buffer
            else:
                file = stack.enter_context(open(request.source, "rb"))
            if request.embeds:
                answered = _write_embeddings(model, lines.chunks(file), request)
            else:
                answered = _write_answers(model, lines.chunks(file), request)
    except BrokenPipeError:
        # who reads the answers has seen enough; nothing more can be written, at exit neither
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
    skipped = f", {lines.skipped} skipped" if lines.skipped else ""
    notify(f"{answered} lines answered{skipped}" + (f": {request.out}" if request.out else ""))
    return {
        "answered": answered,
        "skipped": lines.skipped,
        "out": str(request.out) if request.out else None,
    }


def _served(
    request: PredictRequest, store: Store, problems: Problems, notify: Notify
) -> tuple[Served, str]:
    """The module and the head that answers ("" for embeddings). RequestError with everything that
    is wrong with the request, those that `problems` holds included.
    """
    if request.layer is not None and not request.embeds:
        problems.add("--layer is for embeddings: -o FILE.npy")
    module_request = Request(
        task=request.task or (EMBEDS if request.embeds else ""),
        backbone=request.backbone,
        device=request.device,
        runs=request.runs,
        allow_mismatch=request.allow_mismatch,
    )
    served, head = None, ""
    with problems.catching():
        served = serve(module_request, request.module, store, notify=notify)
        if not request.embeds:
            head = chosen_head(served.plan.task, served.heads, request.module)
            if not head:
                problems.add(
                    f"{request.module}: no head for '{served.plan.task}'; -o FILE.npy writes"
                    " embeddings"
                )
    if served is not None and request.layer is not None:
        layers = int(registry.config(served.plan.backbone)["num_hidden_layers"])
        if not 0 <= request.layer <= layers:
            problems.add(f"--layer {request.layer}: takes 0 (embeddings) to {layers}")
    problems.raise_if_any()
    assert served is not None
    return served, head


def _write_answers(
    model: Predictor, chunks: Iterable[list[NumberedExample]], request: PredictRequest
) -> int:
    """Writes a line of JSON for each example, as soon as its chunk is answered; returns their
    number.
    """
    answered = 0
    with _aside(request.out) as place:
        # JSON is UTF-8, whatever the terminal's encoding
        target: Any = STDOUT if place is None else place
        with open(target, "w", encoding="utf-8", closefd=place is not None) as file:
            for chunk in chunks:
                with _failures_explained(_predicting(chunk, request, answered)):
                    answers = model.predict([numbered.example for numbered in chunk])
                with explained_os_errors(request.out or Path("stdout")):
                    for numbered, answer in zip(chunk, answers, strict=True):
                        row = {"line": numbered.line, **answer}
                        file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    file.flush()
                answered += len(chunk)
    return answered


def _write_embeddings(
    model: Predictor, chunks: Iterable[list[NumberedExample]], request: PredictRequest
) -> int:
    """Writes one float32 array, a row a line; returns the number of rows."""
    import numpy as np

    vectors, answered = [], 0
    for chunk in chunks:
        with _failures_explained(_predicting(chunk, request, answered)):
            texts = [numbered.example["text"] for numbered in chunk]
            vectors.append(model.embed(texts, layer=request.layer))
        answered += len(chunk)
    if not vectors or request.out is None:
        raise DataError(f"{request.source}: no line to embed")
    with _aside(request.out) as place, explained_os_errors(request.out):
        assert place is not None
        with place.open("wb") as file:
            np.save(file, np.concatenate(vectors), allow_pickle=False)
    return answered


def _predicting(chunk: list[NumberedExample], request: PredictRequest, answered: int) -> str:
    """What is being done, and what of the answers is kept should it fail."""
    source = "stdin" if request.source == "-" else request.source
    what = f"answering lines {chunk[0].line} to {chunk[-1].line} of {source} with {request.module}"
    if request.out is not None and _is_regular(request.out):
        return f"{what} (nothing was written to {request.out})"
    return f"{what} ({answered} lines were answered before)"


@contextmanager
def _failures_explained(what: str) -> Iterator[None]:
    """Turns a library's error into a RunError of one line that begins with `what`."""
    try:
        yield
    except (XtlError, OSError):
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        first_line = (str(error).strip().splitlines() or [""])[0][:200]
        raise RunError(f"{what} failed: {type(error).__name__}: {first_line}") from error


@contextmanager
def _aside(out: Path | None) -> Iterator[Path | None]:
    """A file beside `out` that takes its place once the block is done; `out` itself where it is a
    pipe or a device, and None for None.
    """
    if out is None or not _is_regular(out):
        yield out
        return
    final = out.resolve()  # behind links: they stay
    aside = final.with_name(f".{final.name}.{os.getpid()}")
    try:
        yield aside
        os.replace(aside, final)
    finally:
        aside.unlink(missing_ok=True)


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
        elif not os.access(out.parent if _is_regular(out) else out, os.W_OK):
            problems.add(f"-o {out}: cannot be written")


def _is_regular(path: Path) -> bool:
    """Whether a path is, or can become, an ordinary file; a pipe or a device is written as is."""
    return not os.path.exists(path) or os.path.isfile(path)
