"""Stacks: how a child meets its parents, what holds it to them, and one backbone under several of
them.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_xtl.backbones import embedded, loading
from adapters_xtl.backbones.fingerprint import fingerprinted
from adapters_xtl.backbones.loading import weights_digest
from adapters_xtl.backbones.registry import NAMED
from adapters_xtl.base.errors import MismatchError, RequestError
from adapters_xtl.base.files import file_digest, folder_digest, read_json, write_json
from adapters_xtl.cli.commands import recipe as commands
from adapters_xtl.cli.commands.evaluate import evaluate
from adapters_xtl.evaluation import predict
from adapters_xtl.models import assembly
from adapters_xtl.models.context import Context
from adapters_xtl.models.network import EncoderSpec, Host, Model
from adapters_xtl.planning.finished_modules import serve
from adapters_xtl.runs.request import Request
from adapters_xtl.runs.store import MANIFEST, Store
from tests.finished_runs import QUICK, finished_run


@pytest.fixture(scope="module", autouse=True)
def _tokenizer() -> None:
    embedded.prepare(lambda text: None)


def run(
    task: str,
    runs: Path,
    *settings: str,
    on: str = "",
    seeds: str = "",
    baseline: bool = False,
    force: bool = False,
    **options: Any,
) -> dict[str, Any]:
    asked = commands.request(
        task=task,
        on=on,
        set_=[*(QUICK if task not in ("tatoeba", "bucc") else ()), *settings],
        set_parents=list(QUICK),
        runs=str(runs),
        **{"backbone": "tiny", "data": "embedded", "device": "cpu", **options},
    )
    payload, _ = commands.recipe(
        asked, baseline=baseline, force=force, dry_run=False, notify=_quiet, seeds=seeds
    )
    return payload


def finished(task: str, runs: Path, **options: Any) -> dict[str, Any]:
    """A run that may have been trained for another test, copied into this test's store."""
    return finished_run(runs, task, **options)


def _quiet(text: str) -> None:
    pass


def served(module: str | Path, runs: Path, host: Host, **options: Any) -> Any:
    store = Store(runs)
    found = serve(
        Request(task="", device="cpu", runs=str(runs), **options), str(module), store
    ).plan
    return assembly.trained_model(Context(found, store, host, _quiet), found.target)


def test_a_fused_module_joins_independent_parents(runs: Path) -> None:
    payload = run("pawsx", runs, on="qqp,csqa", compose="fuse", languages="de")
    spec = read_json(Path(payload["path"]) / "spec.json")
    d, layers, head = 32, 4, 32 * 32 + 32 + 32 * 2 + 2
    assert (
        payload["metrics"]["train"]["trainable_parameters"] == layers * (3 * d * d + 2 * d) + head
    )
    for parent in spec["parents"]:
        assert read_json(runs / parent["task"] / parent["id"] / "spec.json")["parents"] == [], (
            "trained on the bare backbone"
        )
    again = evaluate(
        Request(task="", languages="de", runs=str(runs), device="cpu"),
        payload["path"],
        layer="",
        export=None,
        force=True,
        notify=_quiet,
    )[0]
    assert again["metrics"]["tasks"] == payload["metrics"]["tasks"], (
        "loaded again, it answers as it did"
    )
    names = {path.name for path in (Path(payload["path"]) / "module").iterdir()}
    assert names and not {name for name in names if not name.endswith((".json", ".safetensors"))}
    with pytest.raises(RequestError, match="lora"):
        run("pawsx", runs, on="qqp,csqa", compose="fuse", method="lora")
    with pytest.raises(RequestError, match="two or more"):
        run("pawsx", runs, on="qqp", compose="fuse")
    with pytest.raises(RequestError, match="fused"):
        run("xnli", runs, on=payload["path"])
    with pytest.raises(RequestError, match="bare backbone"):
        chained = finished("csqa", runs, on="qqp")
        run("pawsx", runs, on=f"csqa,{chained['path']}", compose="fuse")


@pytest.mark.parametrize("method", ["bottleneck", "lora"])
def test_controls_an_untrained_parent_and_the_same_task_twice(method: str, runs: Path) -> None:
    alone = finished("pawsx", runs, languages="de", method=method)
    drawn = run("pawsx", runs, on="random", languages="de", method=method)
    twice = run("pawsx", runs, on="self", languages="de", method=method)
    parent = read_json(Path(drawn["path"]) / "spec.json")["parents"][0]
    assert (
        parent["task"] == "random"
        and read_json(runs / "random" / parent["id"] / "metrics.json")["train"] is None
    )
    drawn_module = runs / "random" / parent["id"] / "module"
    state = [tensor for path in drawn_module.glob("*.safetensors") for tensor in _tensors(path)]
    assert all(tensor.abs().sum() > 0 for tensor in state if tensor.ndim == 2), (
        "untrained, it still changes something"
    )
    assert read_json(Path(twice["path"]) / "spec.json")["parents"] == [
        {"task": "pawsx", "id": alone["id"]}
    ]
    found = {
        (Path(each["path"]) / "predictions/pawsx/de.jsonl").read_text()
        for each in (alone, drawn, twice)
    }
    assert len(found) == 3


def _tensors(path: Path) -> list[torch.Tensor]:
    from safetensors.torch import load_file

    return list(load_file(str(path)).values())


def test_self_of_a_borrowing_task_trains_its_source_twice(runs: Path) -> None:
    payload = run("xquad", runs, on="self", languages="de")
    spec = read_json(Path(payload["path"]) / "spec.json")
    assert [parent["task"] for parent in spec["parents"]] == ["squad1"] and spec["module"][
        "task"
    ] == "squad1"
    with pytest.raises(RequestError, match="trains nothing"):
        run("tatoeba", runs, on="self")


def _swap_weights(target: Path, other: Path) -> None:
    """Puts another run's weights into a run, and its manifest right: a run that is whole, only not
    the one it was.
    """
    shutil.rmtree(target / "module")
    shutil.copytree(other / "module", target / "module")
    manifest = read_json(target / MANIFEST)
    manifest["files"] |= {
        f"module/{path.name}": file_digest(path) for path in (target / "module").iterdir()
    }
    write_json(target / MANIFEST, manifest)


def test_a_child_refuses_other_parents_and_another_backbone(runs: Path) -> None:
    child = finished("pawsx", runs, on="qqp", languages="de")
    parent = read_json(Path(child["path"]) / "spec.json")["parents"][0]
    path = runs / "qqp" / parent["id"]
    before = folder_digest(path / "module")
    _swap_weights(path, Path(run("qqp", runs, seed=2)["path"]))
    now = folder_digest(path / "module")
    with pytest.raises(MismatchError) as caught:
        served(child["path"], runs, Host())
    assert (
        before[:12] in str(caught.value)
        and now[:12] in str(caught.value)
        and "--allow-mismatch" in str(caught.value)
    )
    served(child["path"], runs, Host(), allow_mismatch=True)
    with pytest.raises(MismatchError, match="fingerprint"):  # and nothing was begun
        serve(
            Request(task="", device="cpu", runs=str(runs), backbone="mini"),
            finished("csqa", runs)["path"],
            Store(runs),
        )
    with pytest.raises(RequestError, match="--allow-mismatch"):
        run("xnli", runs, on=run("csqa", runs)["path"], backbone="mini")


def test_a_damaged_record_is_named(runs: Path) -> None:
    path = Path(finished("csqa", runs)["path"])
    for name in ("metrics.json", "spec.json"):
        (path / name).write_text("{")
        with pytest.raises(MismatchError, match=name):
            run("csqa", runs)
    with pytest.raises(MismatchError, match=r"spec\.json"):
        served(path, runs, Host())
    with pytest.raises(RequestError, match=r"spec\.json"):
        run("pawsx", runs, on=str(path))
    assert run("csqa", runs, force=True)["reused"] is False


def test_a_damaged_module_is_named(runs: Path) -> None:
    path = Path(finished("csqa", runs)["path"])
    weights = next((path / "head" / "csqa").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(MismatchError, match="head/csqa"):
        served(path, runs, Host())


@pytest.mark.parametrize("method", ["bottleneck", "lora"])
def test_stacks_take_turns_on_one_backbone(
    method: str, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backbone is read once; each stack answers as it does alone; taken off, the backbone is
    bit for bit what it was.
    """
    paths = [
        finished("pawsx", runs, on=on, method=method, languages="de")["path"]
        for on in ("", "qqp", "qqp,csqa")
    ]
    examples = [
        {"text": "The bridge was built in 1890.", "pair": "It was 1890 when they built the bridge."}
    ]

    def answers(model: Any) -> Any:
        return predict.predict(model, "pawsx", examples, device="cpu", dtype="float32")

    alone = [answers(served(path, runs, Host())) for path in paths]
    assert len({str(each) for each in alone}) == 3
    loads = []
    real = loading.load
    monkeypatch.setattr(
        loading, "load", lambda *args, **options: loads.append(args) or real(*args, **options)
    )
    host = Host()
    for _ in range(2):
        assert [answers(served(path, runs, host)) for path in paths] == alone
    assert len(loads) == 1
    backbone = fingerprinted(NAMED["tiny"])
    bare, _ = host.encoder(EncoderSpec(backbone, method, 32, "bfloat16"))
    assert len(loads) == 1
    fresh, _ = real(backbone)
    assert method == "bottleneck" or weights_digest(bare) == weights_digest(fresh)
    assert {name: value.sum().item() for name, value in bare.named_parameters()} == {
        name: value.sum().item() for name, value in fresh.named_parameters()
    }


@pytest.mark.parametrize("bits", ["8", "4"])
@pytest.mark.parametrize("method", ["bottleneck", "lora"])
def test_a_chain_of_three_answers_bit_for_bit_when_loaded(
    method: str, bits: str, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved and loaded, on a quantised backbone of its own: the logits of the run that trained it."""
    seen: list[torch.Tensor] = []
    real = Model.forward

    def forward(self: Model, task: str, batch: Any, with_loss: bool = True) -> Any:
        found = real(self, task, batch, with_loss)
        if not with_loss:
            seen.append(found["outputs"].clone())
        return found

    monkeypatch.setattr(Model, "forward", forward)
    finished("csqa", runs, on="qqp", method=method, bits=bits)
    seen.clear()
    payload = run("pawsx", runs, on="qqp,csqa", method=method, bits=bits, languages="de")
    trained, count = list(seen), len(seen)
    evaluate(
        Request(task="", languages="de", runs=str(runs), device="cpu"),
        payload["path"],
        layer="",
        export=None,
        force=True,
        notify=_quiet,
    )
    loaded = seen[count:]
    assert loaded and all(
        torch.equal(one, other) for one, other in zip(trained[-len(loaded) :], loaded, strict=True)
    )


def test_seeds_give_intervals_and_paired_differences(runs: Path) -> None:
    payload = run("pawsx", runs, on="qqp", seeds="1,2,3", baseline=True, languages="de,en")
    score = payload["summary"]["score"]
    values = [each["metrics"]["score"] for each in payload["runs"]]
    mean = sum(values) / 3
    deviation = (sum((value - mean) ** 2 for value in values) / 2) ** 0.5
    assert score["mean"] == pytest.approx(mean)
    assert score["interval"]["high"] - mean == pytest.approx(
        4.302653 * deviation / 3**0.5, rel=1e-6
    )
    differences = [
        each["metrics"]["score"] - each["baseline"]["metrics"]["score"] for each in payload["runs"]
    ]
    assert score["difference"]["mean"] == pytest.approx(sum(differences) / 3)
    low, high = (score["difference"]["interval"][end] for end in ("low", "high"))
    assert (score["difference"]["verdict"] == "inconclusive") == (low <= 0 <= high)
    assert len({each["id"] for each in payload["runs"]}) == 3
    with pytest.raises(RequestError, match="--seeds 1,1"):
        run("pawsx", runs, seeds="1,1")
