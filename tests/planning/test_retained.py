"""The sum of parents that were trained apart, and what later training leaves of a parent's task."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapters_xtl import load
from adapters_xtl.backbones import loading, registry
from adapters_xtl.base.errors import MismatchError, RequestError
from adapters_xtl.base.files import read_json
from adapters_xtl.cli.commands import hub
from adapters_xtl.planning.plan import Planner
from adapters_xtl.runs.remake_command import remake_command
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored_runs import read_run
from tests.finished_runs import run_recipe
from tests.planning.test_planner import asked

LEARNT = ("train.max_steps=6", "train.lr=0.02", "train.eval_every=6", "train.select_examples=20")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("order") / "runs"


def recipe(runs: Path, task: str, on: str, **options: Any) -> dict[str, Any]:
    settings = {"set_": (), "set_parents": LEARNT, "method": "lora", **options}
    return run_recipe(runs, task, on=on, **settings)


def states(*runs: Path) -> np.ndarray:
    """Hidden states of the last layer, (tokens, hidden), for one sentence with the modules of the
    runs active at once, by peft alone.
    """
    from peft import PeftModel

    encoder, _ = loading.load(registry.resolve("tiny"))
    names = [f"run_{number}" for number, _ in enumerate(runs)]
    model = PeftModel.from_pretrained(encoder, str(runs[0] / "module"), adapter_name=names[0])
    for run, name in zip(runs[1:], names[1:], strict=True):
        model.load_adapter(str(run / "module"), adapter_name=name)
    model.base_model.set_adapter(names)
    tokens = torch.tensor([[0, 7, 21, 33, 2]])
    with torch.no_grad():
        output = model.eval()(input_ids=tokens, attention_mask=torch.ones_like(tokens))
    hidden: np.ndarray = output.last_hidden_state[0].numpy()
    return hidden


@pytest.fixture(scope="module")
def summed(runs: Path) -> Path:
    """The run of a sum, of mnli and csqa, that tatoeba was scored with."""
    payload = recipe(runs, "tatoeba", "mnli,csqa", compose="sum")
    spec = read_run(Path(payload["path"])).spec
    assert spec.module is not None and spec.module.task == "sum"
    return runs / "sum" / spec.module.id


def test_a_sum_computes_what_both_modules_add(runs: Path, summed: Path) -> None:
    spec = read_run(summed).spec
    assert spec.run is not None and spec.run.compose == "sum" and spec.stack == "mnli+csqa>sum"
    parts = [runs / parent.task / parent.id for parent in spec.parents]
    assert all(not read_run(part).spec.parents for part in parts), "both on the bare backbone"
    for part in parts:  # the module of the sum is no copy of either
        assert np.abs(states(summed) - states(part)).max() > 1e-3
    config = read_json(summed / "module" / "adapter_config.json")
    assert config["r"] == spec.run.options["r"] == 32 and config["lora_alpha"] == 32
    assert np.abs(states(summed) - states(*parts)).max() < 1e-5


def test_the_order_of_the_parts_of_a_sum_changes_no_prediction(runs: Path, summed: Path) -> None:
    other = recipe(runs, "tatoeba", "csqa,mnli", compose="sum")
    spec = read_run(Path(other["path"])).spec
    assert spec.module is not None
    assert np.abs(states(summed) - states(runs / "sum" / spec.module.id)).max() < 1e-5


def test_a_module_is_trained_on_a_sum_like_on_any_parent(runs: Path, summed: Path) -> None:
    payload = recipe(runs, "pawsx", "mnli,csqa", compose="sum", set_=LEARNT, languages="en")
    run = read_run(Path(payload["path"]))
    assert run.spec.stack == "sum>pawsx" and run.spec.parents[0].id == summed.name
    assert run.spec.run is not None and run.spec.run.compose == "stack"
    words = shlex.split(remake_command(run.spec, str(runs)))
    assert words[words.index("--compose") + 1] == "sum"
    assert words[words.index("--on") + 1] == "mnli,csqa"
    digest = run.provenance.lineage.parents[0].sha256
    assert digest == read_run(summed).module.module_sha256


def test_a_sum_is_shared_with_the_modules_it_holds(
    runs: Path, summed: Path, tmp_path: Path
) -> None:
    payload = recipe(runs, "pawsx", "mnli,csqa", compose="sum", set_=LEARNT, languages="en")
    shared, _ = hub.push(
        payload["path"],
        f"file:{tmp_path / 'shared'}/one",
        notify=lambda text: None,
        runs=str(runs),
        with_parents=True,
        private=False,
        licence="",
        rows="",
    )
    pulled, _ = hub.pull(shared["place"], None, notify=lambda text: None)
    assert {parent["task"] for parent in pulled["parents"]} == {"sum", "mnli", "csqa"}
    sentences = ["Der Zug kam pünktlich.", "The train came on time."]
    vectors = [load(Path(place["path"])).embed(sentences) for place in (pulled, payload)]
    assert np.abs(vectors[0] - vectors[1]).max() < 1e-6


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"on": "mnli"}, "two or more"),
        ({"on": "mnli,mnli"}, "two or more"),
        ({"on": "mnli,csqa", "method": "bottleneck"}, "bottleneck"),
        ({"on": "mnli,csqa", "set_parents": ["method.use_dora=true"]}, "method.use_dora"),
        (
            {"on": "mnli,csqa", "set_parents": ['1:method.target_modules=["query"]']},
            "method.target_modules",
        ),
    ],
)
def test_what_cannot_be_added_up_is_refused(
    tmp_path: Path, options: dict[str, Any], named: str
) -> None:
    planner = Planner(Store(tmp_path / "runs"))
    with pytest.raises(RequestError) as refused:
        planner.plan(asked("pawsx", **{"compose": "sum", "method": "lora", **options}))
    assert named in str(refused.value)


@pytest.mark.parametrize("compose", ["init", "stack"])
def test_what_later_training_leaves_of_a_task(runs: Path, compose: str) -> None:
    own = recipe(runs, "mnli", "mnli", compose=compose, retained=True)
    trained = recipe(runs, "mnli", "", set_=LEARNT)
    assert own["id"] == trained["id"], "nothing came after it: its own score"
    after = recipe(runs, "mnli", "mnli,csqa", compose=compose, retained=True)
    run = read_run(Path(after["path"]))
    assert run.spec.kind == "evaluation" and run.spec.stack == "mnli>csqa"
    assert run.spec.evaluation is not None and run.spec.evaluation.head == trained["id"]
    rows = {
        payload["path"]: (Path(payload["path"]) / "predictions/mnli/en.jsonl").read_text()
        for payload in (own, after)
    }
    assert rows[own["path"]] != rows[after["path"]], "training csqa has moved the predictions"
    again = recipe(runs, "mnli", "mnli,csqa", compose=compose, retained=True)
    assert again["reused"] and again["id"] == after["id"]
    words = shlex.split(remake_command(run.spec, str(runs)))
    assert words[1:3] == ["recipe", "mnli"] and "--retained" in words


def test_a_sum_retains_too(runs: Path, summed: Path) -> None:
    payload = recipe(runs, "csqa", "mnli,csqa", compose="sum", retained=True)
    spec = read_run(Path(payload["path"])).spec
    assert spec.module is not None and spec.module.id == summed.name
    assert spec.evaluation is not None
    assert spec.evaluation.head == [parent.id for parent in read_run(summed).spec.parents][1]


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("qqp", {"on": "mnli,csqa"}),
        ("mnli", {}),
        ("multi", {"on": "multi,csqa"}),
        ("mnli", {"on": "mnli,csqa", "method": "bottleneck", "compose": "fuse"}),
    ],
)
def test_what_cannot_be_retained_is_refused(
    tmp_path: Path, task: str, options: dict[str, Any]
) -> None:
    planner = Planner(Store(tmp_path / "runs"))
    with pytest.raises(RequestError, match="--retained"):
        planner.plan(asked(task, **{"method": "lora", "retained": True, **options}))


def test_a_changed_part_of_a_sum_is_found(runs: Path, summed: Path) -> None:
    child = recipe(runs, "pawsx", "mnli,csqa", compose="sum", set_=LEARNT, languages="en")
    spec = read_run(summed).spec
    part = runs / spec.parents[0].task / spec.parents[0].id / "module" / "adapter_model.safetensors"
    kept = part.read_bytes()
    try:
        part.write_bytes(kept[:-4] + b"\0\0\0\1")
        with pytest.raises(MismatchError, match="mnli"):
            load(child["path"]).embed(["One."])
    finally:
        part.write_bytes(kept)
