"""A run followed by experiment trackers while it is made: settings, losses, scores.

The trackers are those of `accelerate.tracking`. What they are told is in the run's record as well,
and nothing of them is part of the run: one that fails is left out, and the run goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapters_xtl.base.errors import clipped
from adapters_xtl.base.launchers import several_processes
from adapters_xtl.base.typed_json import to_json
from adapters_xtl.runs.records import Metrics, Spec

__all__ = ["TrackedRun", "tracked"]

PROJECT = "adapters-xtl"  # of wandb and trackio, experiment of mlflow, unless named otherwise
Notify = Callable[[str], None]


class TrackedRun:
    """The trackers that follow one run. With none, every call does nothing."""

    def __init__(self, trackers: Mapping[str, Any], notify: Notify) -> None:
        self._trackers, self._notify = dict(trackers), notify
        self._step = 0

    def start(self, settings: Mapping[str, Any]) -> None:
        """Begins the run and tells its settings, flat: key → text, number or truth value."""
        self._each(lambda tracker: tracker.start())
        self._each(lambda tracker: tracker.store_init_configuration(dict(settings)))

    def log(self, entry: Mapping[str, Any]) -> None:
        """Tells a line of train_log.jsonl, under `train/` or, scores of the select rows, under
        `select/`.
        """
        values = {
            f"select/{key.removeprefix('eval_')}" if key.startswith("eval_") else f"train/{key}": (
                value
            )
            for key, value in entry.items()
            if key != "step" and value is not None
        }
        self._step = int(entry["step"])
        self._tell(values)

    def scores(self, metrics: Metrics) -> None:
        """Tells the final scores: `scores/<task>/<language>/<metric>`, `scores/<task>/mean` and
        `scores/mean`.
        """
        values: dict[str, Any] = {} if metrics.score is None else {"scores/mean": metrics.score}
        for task, of_task in metrics.tasks.items():
            values[f"scores/{task}/mean"] = of_task.score
            for language, by_metric in of_task.languages.items():
                values |= {
                    f"scores/{task}/{language}/{name}": value
                    for name, value in by_metric.items()
                    if name != "n" and isinstance(value, (int, float))
                }
        self._tell(values)

    def finish(self) -> None:
        self._each(lambda tracker: tracker.finish())

    def _tell(self, values: Mapping[str, Any]) -> None:
        self._each(lambda tracker: tracker.log(dict(values), step=self._step))

    def _each(self, call: Callable[[Any], None]) -> None:
        """Calls every tracker; one that fails is named once and left out from then on."""
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except Exception as error:
                del self._trackers[name]
                reason = clipped(f"{type(error).__name__}: {error}", 200)
                self._notify(f"--report-to {name} failed and hears no more of this run: {reason}")


@contextmanager
def tracked(spec: Spec, names: Sequence[str], root: Path, notify: Notify) -> Iterator[TrackedRun]:
    """The run of `spec`, followed by the trackers `names` until the block ends, however it ends.

    Files of TensorBoard and wandb go below `root`, the store's directory, each in a directory of
    the tracker's name (wandb's own variable WANDB_DIR has precedence).
    """
    if not names:
        yield TrackedRun({}, notify)
        return
    with _one_process():
        trackers: dict[str, Any] = {}
        for name in names:
            try:
                trackers[name] = _FACTORIES[name](spec, root)
            except Exception as error:
                notify(f"--report-to {name} failed: {clipped(f'{type(error).__name__}: {error}')}")
    if "tensorboard" in trackers:
        notify(f"--report-to tensorboard: {root / 'tensorboard' / _name(spec)}")
    run = TrackedRun(trackers, notify)
    run.start(_settings(spec))
    try:
        yield run
    finally:
        run.finish()


@contextmanager
def _one_process() -> Iterator[None]:
    """Makes accelerate's state, which the trackers ask for, for one process on the CPU.

    It is made once a process. Variables of launchers, which nothing here follows, would make it
    wait for other processes.
    """
    from accelerate import PartialState

    hidden = {name: os.environ.pop(name) for name in several_processes(os.environ)}
    try:
        PartialState(cpu=True)
        yield
    finally:
        os.environ.update(hidden)


def _name(spec: Spec) -> str:
    """Of the directory of a run's files."""
    return f"{spec.task}-{spec.id}"


def _title(spec: Spec) -> str:
    """`mnli>xnli lora seed 1 0123456789ab`."""
    stack = spec.stack or spec.backbone.name
    what = stack if spec.kind == "training" else f"{spec.task} by {stack}"
    run = [spec.run.method, f"seed {spec.run.seed}"] if spec.run is not None else []
    return " ".join([what, *run, spec.id])


def _settings(spec: Spec) -> dict[str, Any]:
    """What the run is, flat; lists are one text."""
    flat: dict[str, Any] = {
        "id": spec.id,
        "kind": spec.kind,
        "task": spec.task,
        "stack": spec.stack,
        "backbone": spec.backbone.name,
        "data": spec.data,
        "bits": spec.bits,
        "dtype": spec.dtype,
    }
    if spec.run is not None:
        run = to_json(spec.run)
        flat |= {key: run[key] for key in ("method", "compose", "seed", "protocol", "from_layer")}
        flat |= {f"train.{key}": value for key, value in run["hyper"].items()}
        flat |= {f"method.{key}": value for key, value in run["options"].items()}
    return {
        key: value if isinstance(value, (bool, int, float, str)) else str(value)
        for key, value in flat.items()
    }


def _tensorboard(spec: Spec, root: Path) -> Any:
    from accelerate.tracking import TensorBoardTracker

    # a training that is resumed or made again tells its log from the start: what an earlier
    # process wrote is superseded from step 0 on
    return TensorBoardTracker(_name(spec), logging_dir=root / "tensorboard", purge_step=0)


def _wandb(spec: Spec, root: Path) -> Any:
    from accelerate.tracking import WandBTracker

    project = os.environ.get("WANDB_PROJECT") or PROJECT
    where = {} if os.environ.get("WANDB_DIR") else {"dir": str(root)}
    return WandBTracker(project, name=_title(spec), **where)


def _trackio(spec: Spec, root: Path) -> Any:
    from accelerate.tracking import TrackioTracker

    return TrackioTracker(os.environ.get("TRACKIO_PROJECT") or PROJECT, name=_title(spec))


def _mlflow(spec: Spec, root: Path) -> Any:
    from accelerate.tracking import MLflowTracker

    return MLflowTracker(PROJECT, run_name=_title(spec))


_FACTORIES: Mapping[str, Callable[[Spec, Path], Any]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "trackio": _trackio,
    "mlflow": _mlflow,
}
