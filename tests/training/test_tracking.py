"""Experiment trackers that follow a training: what they hear, and that the run is not theirs.

TensorBoard is the real one, and its event files are read back. For trackers that are not part of
the test environment, the classes of accelerate are held on a package of their name that records.
"""

from __future__ import annotations

import json
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl.base.errors import Problems, RequestError
from adapters_xtl.cli.commands import recipe
from adapters_xtl.grid.cells import Grid
from adapters_xtl.grid.record import grid_id
from adapters_xtl.runs import trackers
from adapters_xtl.runs.records import SPEC, Metrics
from adapters_xtl.runs.request import Request
from adapters_xtl.runs.stored_runs import read_run
from adapters_xtl.training import tracking
from tests.runs.test_records import METRICS
from tests.runs.test_records import SPEC as TRAINED

SETTINGS = [
    "train.max_steps=6",
    "train.eval_every=3",
    "train.select_examples=8",
    "eval.max_examples=8",
]


def _recipe(runs: Path, report_to: str, notify: Any = lambda text: None, **flags: Any) -> Path:
    """The directory of a short LoRA run on `tiny`."""
    request = recipe.request(
        task="qqp",
        on="",
        set_=SETTINGS,
        set_parents=[],
        method="lora",
        backbone="tiny",
        data="embedded",
        device="cpu",
        runs=str(runs),
        report_to=report_to,
    )
    payload, _ = recipe.recipe(
        request, baseline=False, force=False, dry_run=False, notify=notify, **flags
    )
    return Path(payload["path"])


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run that TensorBoard followed, and what the user was told; variables that a launcher left
    behind name processes that do not exist.
    """
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"WORLD_SIZE": "4", "LOCAL_RANK": "1", "RANK": "1"}.items():
            patch.setenv(name, value)
        path = _recipe(tmp_path_factory.mktemp("followed") / "runs", "tensorboard", told.append)
    return path, told


def _events(folder: Path) -> dict[str, dict[int, float]]:
    """TensorBoard's own reading of a directory: tag → step → value."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: {event.step: event.value for event in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
    }


def _logged(path: Path, key: str) -> dict[int, float]:
    lines = map(json.loads, (path / "train_log.jsonl").read_text().splitlines())
    return {line["step"]: pytest.approx(line[key]) for line in lines if key in line}


def test_tensorboard_reads_the_losses_and_scores_of_the_run(
    followed: tuple[Path, list[str]],
) -> None:
    path, told = followed
    folder = path.parents[1] / "tensorboard" / f"qqp-{path.name}"
    assert f"--report-to tensorboard: {folder}" in told
    values, run = _events(folder), read_run(path)
    for tag, key in {
        "train/loss": "loss",
        "train/grad_norm": "grad_norm",
        "train/learning_rate": "learning_rate",
        "select/score": "eval_score",
    }.items():
        assert values[tag] == _logged(path, key) and len(values[tag]) > 1, tag
    assert run.metrics.train is not None
    last = run.metrics.train.steps
    scores = run.metrics.tasks["qqp"]
    assert values["scores/qqp/en/accuracy"] == {
        last: pytest.approx(scores.languages["en"]["accuracy"])
    }
    assert values["scores/mean"] == {last: pytest.approx(run.metrics.score)}
    (hparams,) = folder.glob("*/hparams.yml")
    text = hparams.read_text()
    assert f"id: '{path.name}'" in text or f"id: {path.name}" in text
    assert "train.max_steps: 6" in text and "method.r:" in text and "backbone: tiny" in text


def test_a_run_is_the_same_whoever_follows_it(
    followed: tuple[Path, list[str]], tmp_path: Path
) -> None:
    path, alone = followed[0], _recipe(tmp_path / "runs", "")
    assert alone.name == path.name
    assert (alone / SPEC).read_bytes() == (path / SPEC).read_bytes()
    assert (alone / "train_log.jsonl").read_bytes() == (path / "train_log.jsonl").read_bytes()
    assert read_run(alone).module.module_sha256 == read_run(path).module.module_sha256
    assert not (tmp_path / "runs" / "tensorboard").exists()
    told: list[str] = []
    assert _recipe(path.parents[1], "tensorboard", told.append) == path
    assert any("--report-to has no effect" in line for line in told)


def test_a_run_that_goes_on_tells_its_log_from_the_start(tmp_path: Path) -> None:
    lines = [{"loss": 1.0 / step, "epoch": step / 4, "step": step} for step in (1, 2, 3, 4)]
    for told in (lines[:3], lines):  # killed after step 3; then resumed from step 2
        with tracking.tracked(TRAINED, ("tensorboard",), tmp_path, print) as run:
            for line in told:
                run.log(line)
    folder = tmp_path / "tensorboard" / f"xnli-{TRAINED.id}"
    assert _events(folder)["train/loss"] == {step: pytest.approx(1 / step) for step in (1, 2, 3, 4)}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("tensorbord", "did you mean 'tensorboard'"),
        ("tensorboard,none", "'none'"),
        ("tensorboard,", "''"),
        ("wandb", "pip install wandb"),
    ],
)
def test_what_cannot_follow_is_refused_before_anything_is_trained(
    names: str, words: str, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = trackers._is_installed
    monkeypatch.setattr(trackers, "_is_installed", lambda name: name != "wandb" and installed(name))
    with pytest.raises(RequestError, match="--report-to") as refused:
        _recipe(runs, names)
    assert words in str(refused.value) and "\n" not in str(refused.value)
    assert not runs.exists()


def test_a_study_has_its_directory_whoever_follows_its_runs() -> None:
    grid = Grid("methods", (), (), (1,), Request("panx"))
    followed = replace(grid, base=replace(grid.base, trackers=("tensorboard",)))
    assert grid_id(followed) == grid_id(grid) != grid_id(replace(grid, seeds=(1, 2)))


def test_several_trackers_are_named_with_commas() -> None:
    problems = Problems()
    assert trackers.parse_trackers(" tensorboard,tensorboard ", problems) == ("tensorboard",)
    assert trackers.parse_trackers("", problems) == () and not problems.messages


class _Recording(types.ModuleType):
    """Stands for the package of a tracker; fails from the second `log` on where it should."""

    def __init__(self, name: str, *, fails: bool = False) -> None:
        super().__init__(name)
        self.fails, self.runs, self.values, self.finished = fails, [], [], 0
        self.config = types.SimpleNamespace(
            update=lambda values, **options: self.runs.append(values)
        )

    def init(self, **options: Any) -> _Recording:
        self.runs.append(options)
        return self

    def log(self, values: dict[str, Any], step: int) -> None:
        self.values.append((step, values))
        if self.fails and len(self.values) == 2:
            raise ConnectionError("no route to host\nretry")

    def finish(self) -> None:
        self.finished += 1


def _follow(spec_root: Path, told: list[str], *names: str) -> None:
    with tracking.tracked(TRAINED, names, spec_root, told.append) as run:
        for step in (1, 2, 3):
            run.log({"loss": 0.5, "grad_norm": None, "epoch": 0.1, "step": step})
        run.scores(METRICS)


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_other_trackers_hear_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, told = _Recording(name), []
    monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    _follow(tmp_path, told, name)
    options, settings = package.runs
    assert options["project"] == "adapters-xtl"
    assert options["name"] == f"mnli>xnli lora seed 7 {TRAINED.id}"
    assert settings["train.lr"] == 2e-4 and settings["method.target_modules"] == "all-linear"
    assert package.values[0] == (1, {"train/loss": 0.5, "train/epoch": 0.1})
    assert package.values[-1] == (
        3,
        {"scores/mean": 71.5, "scores/xnli/mean": 71.5, "scores/xnli/de/accuracy": 71.5},
    )
    assert package.finished == 1 and told == []


def test_a_tracker_that_fails_is_named_once_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing, working, told = _Recording("wandb", fails=True), _Recording("trackio"), []
    monkeypatch.setitem(sys.modules, "wandb", failing)
    monkeypatch.setitem(sys.modules, "trackio", working)
    _follow(tmp_path, told, "wandb", "trackio")
    (line,) = told
    assert "wandb" in line and "no route to host" in line and "\n" not in line
    assert len(failing.values) == 2 and len(working.values) == 4 and working.finished == 1


def test_a_run_of_several_tasks_without_a_score_is_told_without_one() -> None:
    run = tracking.TrackedRun({}, print)
    run.log({"loss": 1.0, "step": 1})
    run.scores(Metrics({}, None, None))
    run.finish()
