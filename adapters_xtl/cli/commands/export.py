"""`xtl merge`, `xtl export onnx` and `xtl export results`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapters_xtl.base.errors import RequestError, clipped
from adapters_xtl.base.files import local
from adapters_xtl.base.numbers import parse_whole
from adapters_xtl.export.output_directory import check_output
from adapters_xtl.export.results import export_results

__all__ = ["merge", "onnx", "results"]

Notify = Callable[[str], None]
Answer = tuple[dict[str, Any], list[str]]
AUTO = "auto"


def merge(
    module: str,
    directory: Path,
    *,
    task: str,
    bits: str,
    backbone: str | None,
    runs: str,
    allow_mismatch: bool,
    notify: Notify,
) -> Answer:
    """A module's stack as a plain checkpoint. RequestError before anything heavy is imported where
    flags are wrong.
    """
    number = None if bits == AUTO else parse_whole(bits)
    if bits != AUTO and number not in (32, 16):
        raise RequestError(f"--bits {clipped(bits)}: takes 32 or 16")
    path = local(str(directory))
    check_output(path)
    from adapters_xtl.export import merged_model  # costs torch

    merged = merged_model.merge(
        module,
        path,
        task=task,
        bits=number,
        backbone=backbone,
        runs=runs,
        allow_mismatch=allow_mismatch,
        notify=notify,
    )
    difference = merged.difference
    payload = {
        "path": str(merged.path),
        "bits": merged.bits,
        "auto_class": merged.auto_class,
        "pipeline": merged.pipeline,
        "difference": difference.largest,
        "tolerance": difference.tolerance,
        "difference_as_run": merged.as_run,
        "inputs": merged.inputs,
    }
    loads = merged.auto_class + (f", pipeline {merged.pipeline}" if merged.pipeline else "")
    shown = [
        f"{merged.path}: {merged.bits}-bit weights, loads as {loads}",
        f"largest difference of an output to the stack's, both in float32: {difference.largest:.2g}"
        f" (tolerance {difference.tolerance:.2g}) on {merged.inputs}",
    ]
    if merged.as_run is not None:
        shown.append(
            "largest difference to the stack in the precision in which it was scored:"
            f" {merged.as_run:.2g}"
        )
    return payload, shown


def onnx(
    module: str,
    directory: Path,
    *,
    task: str,
    backbone: str | None,
    runs: str,
    allow_mismatch: bool,
    notify: Notify,
) -> Answer:
    """A module's stack and head as an ONNX graph."""
    path = local(str(directory))
    check_output(path)
    from adapters_xtl.export import onnx_model  # costs torch

    written = onnx_model.export_onnx(
        module,
        path,
        task=task,
        backbone=backbone,
        runs=runs,
        allow_mismatch=allow_mismatch,
        notify=notify,
    )
    difference = written.difference
    payload = {
        "path": str(written.path),
        "inputs": list(written.inputs),
        "output": written.output,
        "difference": difference.largest,
        "tolerance": difference.tolerance,
        "compared": written.compared,
    }
    return payload, [
        f"{written.path}: {', '.join(written.inputs)} → {written.output}",
        f"largest difference of onnxruntime's outputs to the stack's, both in float32:"
        f" {difference.largest:.2g} (tolerance {difference.tolerance:.2g}) on {written.compared}",
    ]


def results(
    names: list[str], directory: Path, *, organisation: str, runs: str, notify: Notify
) -> Answer:
    """The scores of runs in the JSON of mteb and of Every Eval Ever."""
    written = export_results(
        names, local(str(directory)), store=runs, organisation=organisation, notify=notify
    )
    payload = {
        "path": str(written.path),
        "mteb": written.mteb,
        "every_eval_ever": written.every_eval_ever,
    }
    return payload, [
        f"{written.path}: {written.mteb} task results in mteb/, {written.every_eval_ever} files in"
        " every_eval_ever/"
    ]
