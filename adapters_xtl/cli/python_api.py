"""The commands as Python functions: `recipe`, `evaluate`, `push`, `pull`.

Their keyword arguments are named as the flags of `xtl recipe`, `xtl evaluate`, `xtl hub push` and
`xtl hub pull` and mean the same; what the commands print with `--json` is what they return. They
are offered as `adapters_xtl.recipe` and so on; `adapters_xtl.load` stands in `predictor`.

Wherever a module is named, a string (a task, a run id, a directory, a hub id), a path, a `Run` or a
`PulledBundle` can stand: the last two are path-like and give their module.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xtl.base.arguments import files, module_text, number, switch, text, texts
from adapters_xtl.base.errors import Problems, clipped
from adapters_xtl.base.progress_stream import progress_stream

if TYPE_CHECKING:
    from adapters_xtl.pages.run_views import ScorePlot, ScoreTable

__all__ = ["PulledBundle", "PushedBundle", "Run", "evaluate", "pull", "push", "recipe", "show_line"]

Notify = Callable[[str], None]
Settings = Mapping[str, Any] | Sequence[str]
Files = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
Named = str | os.PathLike[str]  # a module, by whatever names it


@dataclass(frozen=True)
class Run:
    """A finished run: the answer of `recipe` and `evaluate`.

    id        of the run, 12 hex digits
    path      its directory
    reused    whether the store had it already
    seconds   that this call took
    metrics   the content of metrics.json: scores by task and language, 0 to 100, and what training
              took
    exported  the files that `evaluate(export=…)` wrote

    A run can be given wherever a module is: `recipe(…, on=run)`, `load(run)`, `evaluate(run)`,
    `push(run, …)`. In a notebook it shows its scores.
    """

    id: str
    path: Path
    reused: bool
    seconds: float
    metrics: Mapping[str, Any] = field(repr=False)
    exported: tuple[Path, ...] = ()
    scored: str = field(default="", repr=False)  # what was asked for as the module

    @property
    def score(self) -> float | None:
        """Mean of the tasks' headline metrics, 0 to 100; None where nothing was scored."""
        score: float | None = self.metrics["score"]
        return score

    @property
    def module(self) -> str:
        """What names the module that was trained or scored: the directory of its run, or what
        `evaluate` was asked with. RequestError for the bare backbone, which has none.
        """
        from adapters_xtl.runs.module_place import module_place

        return module_place(self.path, self.scored)

    def table(self) -> ScoreTable:
        """The scores as tables, which a notebook renders; its `rows` hold the numbers."""
        from adapters_xtl.pages.run_views import ScoreTable

        return ScoreTable(self.metrics)

    def plot(self) -> ScorePlot:
        """The headline scores by language as bars, which a notebook shows; `save(path)` writes
        them. RunError where nothing was scored, RequestError where matplotlib (the extra `plots`)
        is not installed.
        """
        from adapters_xtl.pages.run_views import ScorePlot

        return ScorePlot(self.metrics, f"{self.path.parent.name} · {self.id}")

    def __fspath__(self) -> str:
        return self.module

    def _repr_mimebundle_(self, include: Any, exclude: Any, **options: Any) -> dict[str, str]:
        shown: dict[str, str] = self.table()._repr_mimebundle_(include, exclude, **options)
        return shown


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
    """A verified bundle on this machine, with the bundles of its parents. It can be given wherever
    a module is.
    """

    path: Path
    task: str
    id: str
    digest: str
    parents: tuple[Path, ...] = ()

    def __fspath__(self) -> str:
        return str(self.path)


def show_line(line: str) -> None:
    """Prints a line for the user: on stderr, or in a notebook below the cell."""
    print(line, file=progress_stream(), flush=True)


def recipe(
    task: str,
    *,
    on: Named | Sequence[Named] = (),
    compose: str | None = None,
    method: str | None = None,
    backbone: Named | None = None,
    data: Named | None = None,
    data_file: Files = (),
    select_file: Files = (),
    test_file: Files = (),
    text_columns: str | Sequence[str] = (),
    label: str = "",
    bits: str | int = "auto",
    device: str = "auto",
    languages: str | Sequence[str] | None = None,
    split: str | None = None,
    protocol: str = "clean",
    from_layer: int = 0,
    seed: int = 1,
    reseed: bool = False,
    retained: bool = False,
    set: Settings = (),
    set_parents: Settings = (),
    runs: str | Path = "runs",
    strict: bool = False,
    memory: float | None = None,
    force: bool = False,
    allow_mismatch: bool = False,
    report_to: str | Sequence[str] = (),
    notify: Notify = show_line,
) -> Run:
    """Trains a module for a task, and its parents where the store lacks them, and scores it; or
    finds the finished run.

    `on`: the parents, a task, a run, a bundle, a hub id or a list of them. `set` and `set_parents`:
    settings such as {"train.max_steps": 20}, or as the flags have them, ["train.max_steps=20"]; a
    key of one parent alone has its name or position before it, {"mnli:train.max_steps": 20}.
    `reseed`: every training of the chain gets a seed of its own, made from `seed`.
    `retained`: nothing is trained for the task; what its parents leave is scored with the head of
    the one that is its own.
    `data_file`, `select_file`, `test_file`, `text_columns`, `label`: a task on files of one's own;
    `task` is a format then ("classify", "choice", "span", "tag"). `report_to`:
    the trackers that follow the training, "tensorboard,wandb" or a list.
    `notify` takes each line for the user (default: stderr; in a notebook, below the cell).

    RequestError names every problem of the request, one a line, before anything is trained;
    RunError says what could not be finished.
    """
    from adapters_xtl.cli.commands import recipe as command
    from adapters_xtl.methods import DEFAULT

    problems = Problems()
    parents = _parents(on, problems)
    request = command.request(
        problems=problems,
        task=text("task", task, problems) or "",
        on=parents,
        compose=text("compose", compose, problems),
        method=text("method", method, problems) or DEFAULT,
        backbone=text("backbone", backbone, problems, path=True),
        data=text("data", data, problems, path=True),
        data_file=files("data_file", data_file, problems),
        select_file=files("select_file", select_file, problems),
        test_file=files("test_file", test_file, problems),
        text_columns=texts("text_columns", text_columns, problems) or "",
        label=text("label", label, problems) or "",
        bits=text("bits", str(bits) if isinstance(bits, int) else bits, problems) or "auto",
        device=text("device", device, problems) or "auto",
        languages=texts("languages", languages, problems),
        split=text("split", split, problems),
        protocol=text("protocol", protocol, problems) or "clean",
        from_layer=number("from_layer", from_layer, problems, whole=True) or 0,
        seed=number("seed", seed, problems, whole=True, default=1),
        reseed=switch("reseed", reseed, problems),
        retained=switch("retained", retained, problems),
        set_=_texts("set", set, problems),
        set_parents=_texts("set_parents", set_parents, problems),
        runs=text("runs", runs, problems, path=True) or "runs",
        strict=switch("strict", strict, problems),
        memory=number("memory", memory, problems),
        allow_mismatch=switch("allow_mismatch", allow_mismatch, problems),
        report_to=texts("report_to", report_to, problems) or "",
    )
    request = replace(
        request,
        overrides=(*request.overrides, *_pairs(set)),
        parent_overrides=(*request.parent_overrides, *_pairs(set_parents)),
    )
    payload, _ = command.recipe(
        request,
        baseline=False,
        force=switch("force", force, problems),
        dry_run=False,
        zero_shot=False,  # `evaluate(run, task="xnli")` gives a Run of its own
        problems=problems,
        notify=notify,
    )
    return _result(payload, parents[-1] if parents else "")


def evaluate(
    module: Named,
    *,
    task: str = "",
    data: Named | None = None,
    test_file: Files = (),
    text_columns: str | Sequence[str] = (),
    label: str = "",
    languages: str | Sequence[str] | None = None,
    split: str | None = None,
    backbone: Named | None = None,
    device: str = "auto",
    set: Settings = (),
    runs: str | Path = "runs",
    layer: int | str = "",
    export: tuple[str, str | Path] | None = None,
    strict: bool = False,
    allow_mismatch: bool = False,
    force: bool = False,
    notify: Notify = show_line,
) -> Run:
    """Scores a finished module (a run, its directory or id, a bundle, a hub id) on a task; or finds
    the finished evaluation.

    `layer`: for retrieval, the hidden state that is pooled, or "all". `export`: ("xtreme", DIR)
    writes the predictions in XTREME's layout. Errors as for `recipe`.
    """
    from adapters_xtl.cli.commands import evaluate as command
    from adapters_xtl.cli.commands.recipe import request as request_of

    problems = Problems()
    name = module_text("module", module, problems)
    request = request_of(
        problems=problems,
        task=text("task", task, problems) or "",
        on="",
        set_=_texts("set", set, problems),
        set_parents=(),
        data=text("data", data, problems, path=True),
        test_file=files("test_file", test_file, problems),
        text_columns=texts("text_columns", text_columns, problems) or "",
        label=text("label", label, problems) or "",
        languages=texts("languages", languages, problems),
        split=text("split", split, problems),
        backbone=text("backbone", backbone, problems, path=True),
        device=text("device", device, problems) or "auto",
        runs=text("runs", runs, problems, path=True) or "runs",
        strict=switch("strict", strict, problems),
        allow_mismatch=switch("allow_mismatch", allow_mismatch, problems),
    )
    request = replace(request, overrides=(*request.overrides, *_pairs(set)))
    payload, _ = command.evaluate(
        request,
        name,
        layer=_layer(layer, problems),
        export=_export(export, problems),
        force=switch("force", force, problems),
        problems=problems,
        notify=notify,
    )
    return _result(payload, name)


def push(
    run: Named,
    dest: str,
    *,
    with_parents: bool = False,
    private: bool = False,
    licence: str = "",
    rows: str = "",
    runs: str | Path = "runs",
    notify: Notify = show_line,
) -> PushedBundle:
    """Shares a finished run (or a bundle directory) as a bundle: on the hub ("user/name") or in a
    folder ("file:DIR/name").

    Pushed again unchanged, it changes nothing. RequestError or MismatchError where it cannot be
    shared.
    """
    from adapters_xtl.cli.commands import hub

    problems = Problems()
    options: dict[str, Any] = {
        "runs": text("runs", runs, problems, path=True) or "runs",
        "with_parents": switch("with_parents", with_parents, problems),
        "private": switch("private", private, problems),
        "licence": text("licence", licence, problems) or "",
        "rows": text("rows", rows, problems) or "",
    }
    name = module_text("run", run, problems)
    place = text("dest", dest, problems, path=True) or ""
    problems.raise_if_any()
    payload, _ = hub.push(name, place, notify=notify, **options)
    return _pushed(payload)


def pull(id: str, *, out: str | Path | None = None, notify: Notify = show_line) -> PulledBundle:
    """Fetches a bundle ("user/name[@revision]", "file:DIR/name") and the parents it stands on, all
    verified; with `out` it is also copied there.

    MismatchError where a file is not the one that a manifest or the lineage names.
    """
    from adapters_xtl.cli.commands import hub

    problems = Problems()
    name = text("id", id, problems) or ""
    target = text("out", out, problems, path=True)
    problems.raise_if_any()
    payload, _ = hub.pull(name, None if target is None else Path(target), notify=notify)
    return PulledBundle(
        Path(payload["path"]),
        payload["task"],
        payload["id"],
        payload["digest"],
        tuple(Path(parent["path"]) for parent in payload["parents"]),
    )


def _texts(name: str, settings: Any, problems: Problems) -> Sequence[str]:
    """Settings as the flags have them: those of a list. See `_pairs` for a mapping's."""
    if isinstance(settings, Mapping):
        for key in settings:
            if not isinstance(key, str):
                problems.add(f"{name}: {key!r}: a setting's name is a text")
        return ()
    if isinstance(settings, (list, tuple)) and all(isinstance(item, str) for item in settings):
        return settings
    problems.add(f"{name}={clipped(repr(settings))}: takes a mapping, or a list of key=value texts")
    return ()


def _pairs(settings: Any) -> Sequence[tuple[str, Any]]:
    if not isinstance(settings, Mapping):
        return ()
    return tuple((key, value) for key, value in settings.items() if isinstance(key, str))


def _export(export: Any, problems: Problems) -> tuple[str, str] | None:
    """(form, directory) of an export."""
    if export is None:
        return None
    if isinstance(export, (list, tuple)) and len(export) == 2:
        form, directory = export
        if isinstance(form, str) and isinstance(directory, (str, os.PathLike)):
            return form, str(os.fspath(directory))
    problems.add(f"export={clipped(repr(export))}: takes ('xtreme', DIR)")
    return None


def _layer(layer: Any, problems: Problems) -> str:
    if isinstance(layer, (int, str)) and not isinstance(layer, bool):
        return str(layer)
    problems.add(f"layer={clipped(repr(layer))}: takes a number of a layer, or 'all'")
    return ""


def _parents(on: Any, problems: Problems) -> list[str]:
    """The parents by what names them. One text may name several, separated by commas."""
    if isinstance(on, str):
        return on.split(",") if on else []
    several = on if isinstance(on, (list, tuple)) else [on]
    return [module_text("on", parent, problems) for parent in several]


def _result(payload: Mapping[str, Any], scored: str) -> Run:
    return Run(
        payload["id"],
        Path(payload["path"]),
        payload["reused"],
        payload["seconds"],
        payload["metrics"],
        tuple(Path(path) for path in payload.get("exported", ())),
        scored,
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
