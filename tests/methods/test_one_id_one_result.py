"""The same run id means the same bytes, whatever its process did before."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl.cli.commands import recipe
from adapters_xtl.cli.commands.evaluate import evaluate
from adapters_xtl.evaluation import predict
from adapters_xtl.runs.request import Request
from tests.command_line import xtl
from tests.finished_runs import run_recipe

QUICK = ("train.max_steps=2", "train.eval_every=1", "train.select_examples=20")
SEVERAL = (*QUICK, "train.tasks=qqp,csqa")
WORK: dict[str, dict[str, Any]] = {
    "first seed": {"task": "mnli"},
    "second seed": {"task": "mnli", "seed": 2},
    "interrupted": {"task": "mnli", "seed": 3},
    "several tasks": {"task": "multi", "set_": SEVERAL},
    "stack": {"task": "pawsx", "on": "mnli", "set_parents": QUICK},
    "random parent": {"task": "pawsx", "on": "random"},
    "copy": {"task": "pawsx", "on": "mnli", "compose": "init", "set_parents": QUICK},
    "fused": {"task": "pawsx", "on": "mnli,qqp", "compose": "fuse", "set_parents": QUICK},
}


def weights(runs: Path) -> dict[str, bytes]:
    """Run and file → bytes, of every module and head in a store."""
    return {
        str(path.relative_to(runs)): path.read_bytes()
        for folder in ("module", "head")
        for path in runs.glob(f"*/*/{folder}/**/*")
        if path.is_file() and ".partial" not in str(path)
    }


def in_this_process(name: str, method: str, runs: Path, **more: Any) -> dict[str, Any]:
    options = {"set_": QUICK, "set_parents": (), **WORK[name], **more}
    return run_recipe(runs, options.pop("task"), method=method, languages="en", **options)


def in_a_process_of_its_own(name: str, method: str, runs: Path) -> None:
    options = {"set_": QUICK, "set_parents": (), **WORK[name]}
    words = ["recipe", options["task"], "--method", method, "--languages", "en", "--runs", runs]
    words += ["--backbone", "tiny", "--data", "embedded", "--device", "cpu"]
    words += [word for pair in options["set_"] for word in ("--set", pair)]
    words += [word for pair in options["set_parents"] for word in ("--set-parents", pair)]
    for flag in ("on", "compose", "seed"):
        if flag in options:
            words += [f"--{flag}", str(options[flag])]
    xtl(*words)


def interrupted_at(count: int) -> Callable[..., Any]:
    """`predict.predict` that ends its process, as it were, when it is called for the `count`th
    time.
    """
    calls = iter(range(1, 10**6))
    original = predict.predict

    def predict_or_end(*arguments: Any, **options: Any) -> Any:
        if next(calls) == count:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    return predict_or_end


@pytest.mark.parametrize("method", ["bottleneck", "lora"])
def test_weights_do_not_depend_on_what_the_process_did_before(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trainings, a composition of each kind, evaluations between them, and a training that is
    interrupted and goes on after all others; two seeds on one loaded backbone.
    """
    names = [name for name in WORK if name != "fused" or method == "bottleneck"]
    random.Random(method).shuffle(names)
    together, alone = tmp_path / "together", tmp_path / "alone"
    with monkeypatch.context() as patch:
        patch.setattr(predict, "predict", interrupted_at(2))
        with pytest.raises(KeyboardInterrupt):
            in_this_process("interrupted", method, together)
    request = recipe.request(
        task="mnli", on="", set_=QUICK, set_parents=(), method=method, languages="en",
        runs=str(together), backbone="tiny", data="embedded", device="cpu",
    )  # fmt: skip
    two, _ = recipe.recipe(
        request, baseline=False, force=False, dry_run=False, notify=lambda text: None, seeds="2,1"
    )
    scored = Request("xnli", languages="de", runs=str(together), device="cpu")
    for name in names:
        evaluate(
            scored, two["runs"][0]["id"], layer="", export=None, force=True,
            notify=lambda text: None,
        )  # fmt: skip
        in_this_process(name, method, together)
    for name in reversed(names):
        in_a_process_of_its_own(name, method, alone)
    assert weights(together) == weights(alone)
    assert len({path.split("/")[1] for path in weights(alone)}) >= 7
