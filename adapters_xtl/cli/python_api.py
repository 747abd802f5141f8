"""The commands as Python functions: `recipe`, `evaluate`, `push`, `pull`.

Their keyword arguments are named as the flags of `xtl recipe`, `xtl evaluate`, `xtl hub push` and
`xtl hub pull` and mean the same; what the commands print with `--json` is what they return. They
are offered as `adapters_xtl.recipe` and so on; `adapters_xtl.load` stands in `predictor`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from adapters_xtl.base.errors import Problems

__all__ = ["PulledBundle", "PushedBundle", "RunResult", "evaluate", "pull", "push", "recipe"]

Notify = Callable[[str], None]
Settings = Mapping[str, Any] | Sequence[str]


@dataclass(frozen=True)
class RunResult:
    """The run that answers a request.

    id        of the run, 12 hex digits
    path      its directory
    reused    whether the store had it already
    seconds   that this call took
    metrics   the content of metrics.json: scores by task and language, 0 to 100, and what training
              took
    exported  the files that `evaluate(export=…)` wrote
    """

    id: str
    path: Path
    reused: bool
    seconds: float
    metrics: Mapping[str, Any] = field(repr=False)
    exported: tuple[Path, ...] = ()

    @property
    def score(self) -> float | None:
        """Mean of the tasks' headline metrics, 0 to 100; None where nothing was scored."""
        score: float | None = self.metrics["score"]
        return score


@dataclass(frozen=True)
class PushedBundle:
    """A bundle that was shared. `new` is False where it lay there already, unchanged."""

    place: str
    new: bool
    task: str
    id: str
    digest: str
    parents: tuple[PushedBundle, ...] = ()


@dataclass(frozen=True)
class PulledBundle:
    """A verified bundle on this machine, with the bundles of its parents."""

    path: Path
    task: str
    id: str
    digest: str
    parents: tuple[Path, ...] = ()


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def recipe(
    task: str,
    *,
    on: str | Sequence[str] = (),
    compose: str | None = None,
    method: str | None = None,
    backbone: str | None = None,
    data: str | None = None,
    bits: str | int = "auto",
    device: str = "auto",
    languages: str | None = None,
    split: str | None = None,
    protocol: str = "clean",
    from_layer: int = 0,
    seed: int = 1,
    set: Settings = (),
    set_parents: Settings = (),
    runs: str | Path = "runs",
    strict: bool = False,
    memory: float | None = None,
    force: bool = False,
    allow_mismatch: bool = False,
    report_to: str | Sequence[str] = (),
    notify: Notify = _to_stderr,
) -> RunResult:
    """Trains a module for a task, and its parents where the store lacks them, and scores it; or
    finds the finished run.

    `on`: the parents, "mnli,squad1" or a list of names. `set` and `set_parents`: settings such as
    {"train.max_steps": 20}, or as the flags have them, ["train.max_steps=20"]. `report_to`: the
    trackers that follow the training, "tensorboard,wandb" or a list. `notify` takes each line for
    the user (default: stderr). RequestError names every problem of the request, one a
    line, before anything is trained; RunError says what could not be finished.
    """
    from adapters_xtl.cli.commands import recipe as command
    from adapters_xtl.methods import DEFAULT

    parents = on if isinstance(on, str) else ",".join(on)
    problems = Problems()
    request = command.request(
        problems=problems,
        task=task,
        on=parents,
        compose=compose,
        method=method or DEFAULT,
        backbone=backbone,
        data=data,
        bits=str(bits),
        device=device,
        languages=languages,
        split=split,
        protocol=protocol,
        from_layer=from_layer,
        seed=seed,
        set_=_texts(set),
        set_parents=_texts(set_parents),
        runs=str(runs),
        strict=strict,
        memory=memory,
        allow_mismatch=allow_mismatch,
        report_to=report_to if isinstance(report_to, str) else ",".join(report_to),
    )
    request = replace(
        request,
        overrides=(*request.overrides, *_pairs(set)),
        parent_overrides=(*request.parent_overrides, *_pairs(set_parents)),
    )
    payload, _ = command.recipe(
        request, baseline=False, force=force, dry_run=False, problems=problems, notify=notify
    )
    return _result(payload)


def evaluate(
    module: str | Path,
    *,
    task: str = "",
    data: str | None = None,
    languages: str | None = None,
    split: str | None = None,
    backbone: str | None = None,
    device: str = "auto",
    set: Settings = (),
    runs: str | Path = "runs",
    layer: int | str = "",
    export: tuple[str, str | Path] | None = None,
    strict: bool = False,
    allow_mismatch: bool = False,
    force: bool = False,
    notify: Notify = _to_stderr,
) -> RunResult:
    """Scores a finished module (a run directory or id, a bundle directory, a hub id) on a task; or
    finds the finished evaluation.

    `layer`: for retrieval, the hidden state that is pooled, or "all". `export`: ("xtreme", DIR)
    writes the predictions in XTREME's layout. Errors as for `recipe`.
    """
    from adapters_xtl.cli.commands import evaluate as command
    from adapters_xtl.cli.commands.recipe import request as request_of

    problems = Problems()
    request = request_of(
        problems=problems,
        task=task,
        on="",
        set_=_texts(set),
        set_parents=(),
        data=data,
        languages=languages,
        split=split,
        backbone=backbone,
        device=device,
        runs=str(runs),
        strict=strict,
        allow_mismatch=allow_mismatch,
    )
    request = replace(request, overrides=(*request.overrides, *_pairs(set)))
    payload, _ = command.evaluate(
        request,
        str(module),
        layer=str(layer),
        export=(export[0], str(export[1])) if export else None,
        force=force,
        problems=problems,
        notify=notify,
    )
    return _result(payload)


def push(
    run: str | Path,
    dest: str,
    *,
    with_parents: bool = False,
    private: bool = False,
    licence: str = "",
    rows: str = "",
    runs: str | Path = "runs",
    notify: Notify = _to_stderr,
) -> PushedBundle:
    """Shares a finished run (or a bundle directory) as a bundle: on the hub ("user/name") or in a
    folder ("file:DIR/name").

    Pushed again unchanged, it changes nothing. RequestError or MismatchError where it cannot be
    shared.
    """
    from adapters_xtl.cli.commands import hub

    payload, _ = hub.push(
        str(run),
        dest,
        runs=str(runs),
        with_parents=with_parents,
        private=private,
        licence=licence,
        rows=rows,
        notify=notify,
    )
    return _pushed(payload)


def pull(id: str, *, out: str | Path | None = None, notify: Notify = _to_stderr) -> PulledBundle:
    """Fetches a bundle ("user/name[@revision]", "file:DIR/name") and the parents it stands on, all
    verified; with `out` it is also copied there.

    MismatchError where a file is not the one that a manifest or the lineage names.
    """
    from adapters_xtl.cli.commands import hub

    payload, _ = hub.pull(id, None if out is None else Path(out), notify=notify)
    return PulledBundle(
        Path(payload["path"]),
        payload["task"],
        payload["id"],
        payload["digest"],
        tuple(Path(parent["path"]) for parent in payload["parents"]),
    )


def _texts(settings: Settings) -> Sequence[str]:
    return () if isinstance(settings, Mapping) else settings


def _pairs(settings: Settings) -> Sequence[tuple[str, Any]]:
    return tuple(settings.items()) if isinstance(settings, Mapping) else ()


def _result(payload: Mapping[str, Any]) -> RunResult:
    return RunResult(
        payload["id"],
        Path(payload["path"]),
        payload["reused"],
        payload["seconds"],
        payload["metrics"],
        tuple(Path(path) for path in payload.get("exported", ())),
    )


def _pushed(payload: Mapping[str, Any]) -> PushedBundle:
    return PushedBundle(
        payload["place"],
        payload["new"],
        payload["task"],
        payload["id"],
        payload["digest"],
        tuple(_pushed(parent) for parent in payload.get("parents", ())),
    )
