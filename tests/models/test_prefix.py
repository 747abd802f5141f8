"""The layers below the lowest module, fixed: a text's states are one constant of it, and a run is
the same whether they were looked up or computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapters_xtl import methods
from adapters_xtl.backbones import prefix_files, registry
from adapters_xtl.backbones.fingerprint import fingerprinted
from adapters_xtl.backbones.prefix_files import PrefixFiles
from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.files import folder_digest, read_json
from adapters_xtl.cli.commands import cache as cache_command
from adapters_xtl.formats import Item, Lengths, pad
from adapters_xtl.methods import Link
from adapters_xtl.models.heads import HeadSpec, head_spec
from adapters_xtl.models.network import EncoderSpec, Host, Model, StackSpec, build, on_device
from adapters_xtl.models.prefix import Prefix
from adapters_xtl.training.cast_once import cast_once
from adapters_xtl.training.checkpoints import newest_checkpoint, read_state
from tests.finished_runs import run_recipe
from tests.small_bert import small_bert
from tests.training.toys import DEFAULTS, LABELS
from tests.training.toys import items as toy_items
from tests.training.toys import train as train_toy

QUICK = (
    "train.max_steps=6",
    "train.eval_every=3",
    "train.select_examples=20",
    "train.max_examples=24",
    "train.batch_size=8",
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of this test's own, with the prepared tokenizer of all tests."""
    home = tmp_path / "cache"
    home.mkdir()
    (home / "mini").symlink_to((prefix_files.cache_dir() / "mini").resolve())
    monkeypatch.setenv("XTL_CACHE", str(home))


def items(count: int, seed: int = 0, vocabulary: int = 50, types: bool = False) -> list[Item]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        ids = rng.integers(5, vocabulary, int(rng.integers(3, 60))).astype(np.int32)
        kinds = (np.arange(len(ids)) > len(ids) // 2).astype(np.int32)
        made.append(Item(number, (ids,), (kinds,) if types else None))
    return made


def built(
    method: str,
    backbone: str = "tiny",
    layer: int = 2,
    heads: Mapping[str, HeadSpec] | None = None,
) -> tuple[Model, Host]:
    host = Host()
    model = build(
        EncoderSpec(fingerprinted(registry.resolve(backbone)), method),
        StackSpec([Link("child")], DEFAULTS[method], layer),
        heads or {},
        train=True,
        seed=1,
        host=host,
    )
    with torch.no_grad():  # a fresh module computes nothing
        for parameter in model.trainable().values():
            parameter.normal_(std=0.1)
    return model.eval(), host


def prefix_of(
    model: Model, host: Host, layer: int = 2, dtype: str = "float32", parents: Sequence[str] = ()
) -> Prefix:
    return Prefix(
        model.encoder,
        layer,
        fingerprint="a backbone",
        weights=host.digests,
        parents=parents,
        bits=32,
        dtype=dtype,
        device="cpu",
        notify=lambda text: None,
    )


@pytest.mark.parametrize("backbone", ["tiny", "bert"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_texts_states_are_a_constant_of_the_text(
    backbone: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever method is attached above, whatever else is asked for, and kept or not: the same
    bits; and to rounding those of an ordinary pass in a padded batch.
    """
    bert = backbone == "bert"
    layer = 1 if bert else 2
    name = str(small_bert(tmp_path)) if bert else backbone
    texts = items(40, types=bert)
    width = max(item.length for item in texts)
    of_method = {}
    for method in ("lora", "bottleneck"):
        monkeypatch.setenv("XTL_PREFIX_GIB", "0")
        model, host = built(method, name, layer)
        model.train()
        prefix = prefix_of(model, host, layer, dtype)
        together = prefix.states(texts, width)
        single = torch.cat([prefix.states([text], width) for text in texts])
        assert torch.equal(together, single) and together.dtype == torch.float32
        assert all(part.training for part in model.modules()), "modes are put back"
        monkeypatch.setenv("XTL_PREFIX_GIB", "1")
        kept = prefix_of(model, host, layer, dtype)
        kept.prepare(texts[:25])
        assert torch.equal(kept.states(texts, width), together)
        assert kept.cost().kept == kept.cost().texts == 25
        with cast_once(methods.load(method).products(model.encoder), dtype):
            assert torch.equal(prefix.states(texts, width), together), "as a training has them"
        of_method[method] = (kept.files.space, together)
        batch = on_device(pad(texts, model.tokenizer), "cpu")
        model.eval()
        if dtype == "float32":
            with torch.no_grad():
                plain = model.hidden_states(batch, layer)[layer]
            for row, text in enumerate(texts):
                length = text.length
                assert torch.allclose(together[row, :length], plain[row, :length], atol=1e-5)
                assert not together[row, length:].any()
    assert of_method["lora"][0] == of_method["bottleneck"][0], "they share the files"
    assert torch.equal(of_method["lora"][1], of_method["bottleneck"][1])
    assert len(prefix_files.spaces()) == 1


@pytest.mark.parametrize("method", ["lora", "bottleneck"])
def test_the_layers_above_compute_what_the_whole_encoder_does(method: str) -> None:
    model, host = built(method)
    texts = items(12)
    batch = on_device(pad(texts, model.tokenizer), "cpu")
    whole = model.states(batch)
    model.prefix = prefix_of(model, host)
    above = model.states(model.with_prefix(batch, texts))
    mask = batch["attention_mask"].bool()
    assert torch.allclose(above[mask], whole[mask], atol=1e-5)
    above[mask].square().sum().backward()
    assert all(value.grad is not None for value in model.trainable().values())
    again = model.states(batch)
    assert torch.equal(again, whole), "the encoder is as it was"


def test_a_pass_whose_edge_differs_is_not_used() -> None:
    """Kernels that treat the last rows of a matrix in another way: texts then pass alone."""
    model, host = built("lora")
    prefix = prefix_of(model, host)
    texts = items(30)
    alone = [prefix._forward([(text.ids[0], None)])[0] for text in texts]
    honest = prefix._forward

    def uneven(group: Any) -> torch.Tensor:
        states = honest(group)
        if len(group) > 1:
            states[-1] *= 1.001
        return states

    prefix._forward = uneven  # type: ignore[method-assign]
    states = prefix.states(texts, 60)
    for row, text in enumerate(texts):
        assert torch.equal(states[row, : text.length], alone[row])


def recipe(runs: Path, **request: Any) -> dict[str, Any]:
    """A training above layer 2, with all that it says. Its rows are drawn by its seed."""
    return run_recipe(
        runs, request.pop("task", "panx"), **{"set_": QUICK, "from_layer": 2, **request}
    )


def outcome(payload: dict[str, Any]) -> tuple[str, ...]:
    path = Path(payload["path"])
    logged = (path / "train_log.jsonl").read_text()
    predictions = [folder_digest(folder) for folder in sorted((path / "predictions").iterdir())]
    heads = [folder_digest(folder) for folder in sorted((path / "head").iterdir())]
    return (payload["id"], folder_digest(path / "module"), logged, *heads, *predictions)


def _damage(change: Callable[[bytes], bytes]) -> None:
    for path in (prefix_files.cache_dir() / "prefix").glob("*/*.states"):
        path.write_bytes(change(path.read_bytes()))


def test_a_run_is_the_same_cold_warm_truncated_poisoned_and_without_a_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with a budget that holds only a part. Its siblings compute nothing."""
    cold = recipe(tmp_path / "cold", method="lora", languages="de")
    cost = cold["metrics"]["train"]["prefix"]
    assert cost["layer"] == 2 and cost["texts"] == cost["kept"] == cost["computed"] > 24
    assert cost["bytes"] > 24 * 32 * 2

    warm = recipe(tmp_path / "warm", method="lora", languages="de")
    assert warm["metrics"]["train"]["prefix"]["computed"] == 0
    assert outcome(warm) == outcome(cold)

    _damage(lambda content: content[:-100])
    assert outcome(recipe(tmp_path / "cut", method="lora", languages="de")) == outcome(cold)
    _damage(lambda content: content[:-1000] + bytes(1000))
    assert outcome(recipe(tmp_path / "bad", method="lora", languages="de")) == outcome(cold)

    other = recipe(
        tmp_path / "warm", method="bottleneck", languages="de", set_=[*QUICK, "train.lr=1e-3"]
    )
    assert other["metrics"]["train"]["prefix"]["computed"] == 0

    shown, _ = cache_command.show()
    (space,) = shown["spaces"]
    assert space["identity"]["layer"] == 2 and space["texts"] >= cost["texts"]
    assert cache_command.clear()[0]["bytes"] == shown["bytes"] > cost["bytes"]
    monkeypatch.setenv("XTL_PREFIX_GIB", str(4096 / 2**30))
    part = recipe(tmp_path / "part", method="lora", languages="de")
    monkeypatch.setenv("XTL_PREFIX_GIB", "0")
    without = recipe(tmp_path / "none", method="lora", languages="de")
    cost = without["metrics"]["train"]["prefix"]
    assert cost["kept"] == 0 and cost["computed"] > cost["texts"]
    assert outcome(part) == outcome(without) == outcome(cold)


@pytest.mark.parametrize("task", ["squad1", "csqa"])
def test_windows_and_choices_have_states_of_their_own(task: str, tmp_path: Path) -> None:
    """Several sequences of an example; and a module that was trained so is evaluated so."""
    settings = [*QUICK, *(["train.max_length=64", "train.stride=16"] if task == "squad1" else [])]
    first = recipe(tmp_path / "a", task=task, set_=settings)
    again = recipe(tmp_path / "b", task=task, set_=settings)
    assert outcome(first) == outcome(again)
    assert again["metrics"]["train"]["prefix"]["computed"] == 0


def test_a_parent_that_reaches_further_down_has_a_space_of_its_own(tmp_path: Path) -> None:
    """What the layers below compute is then the parent's too."""
    parent = run_recipe(tmp_path, "mnli", set_=QUICK, method="lora")
    child = recipe(tmp_path, task="panx", on=parent["path"], method="lora", languages="de")
    alone = recipe(tmp_path, task="panx", method="lora", languages="de")
    assert alone["metrics"]["train"]["prefix"]["computed"] > 0
    assert len(prefix_files.spaces()) == 2
    spec = read_json(Path(child["path"]) / "spec.json")
    assert spec["run"]["hyper"]["prefix"] == "fixed"
    # merged, the parent is part of the lower layers' own weights: nothing is kept of them then
    cache_command.clear()
    merged = recipe(
        tmp_path,
        task="panx",
        on=parent["path"],
        method="lora",
        languages="de",
        set_=[*QUICK, "eval.merged=true"],
    )
    assert merged["id"] != child["id"] and not prefix_files.spaces()


def test_untrained_parents_of_another_alpha_share_no_states(tmp_path: Path) -> None:
    """Random ones of one seed: their tensors are the same, and alpha is in no tensor."""
    for alpha in (2, 64):
        setting = f"method.lora_alpha={alpha}"
        run_recipe(tmp_path, "pawsx", on="random", method="lora", set_parents=[setting])
    parents = sorted(tmp_path.glob("random/*"))
    assert len(parents) == 2
    for number, parent in enumerate(parents, start=1):
        child = recipe(tmp_path, on=str(parent), method="lora", languages="de")
        assert child["metrics"]["train"]["prefix"]["computed"] > 0
        assert len(prefix_files.spaces()) == number


def test_parents_with_the_same_tensors_share_no_states(tmp_path: Path) -> None:
    """What LoRA's alpha or a bottleneck's non-linearity changes is in no tensor."""
    model, host = built("lora")
    for parent in ("alpha 16", "alpha 64", "alpha 16"):
        prefix_of(model, host, parents=[parent]).prepare(items(5))
    assert len(prefix_files.spaces()) == 2


def test_dropout_below_is_another_run_and_only_what_can_be_fixed_is(tmp_path: Path) -> None:
    fixed = recipe(tmp_path, languages="de")
    dropped = recipe(tmp_path, languages="de", set_=[*QUICK, "train.prefix=dropout"])
    assert fixed["id"] != dropped["id"] and "prefix" not in dropped["metrics"]["train"]
    for request, complaint in (
        ({"from_layer": 0}, "every layer gets a module"),
        ({"method": "full"}, "full trains every layer"),
    ):
        with pytest.raises(RequestError, match=complaint):
            recipe(tmp_path, set_=[*QUICK, "train.prefix=fixed"], **request)
    with pytest.raises(RequestError, match="XTL_PREFIX_GIB"), pytest.MonkeyPatch.context() as env:
        env.setenv("XTL_PREFIX_GIB", "plenty")
        recipe(tmp_path, seed=2)


def test_a_resumed_training_counts_the_states_of_the_processes_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Computed again whenever they are needed. Their seconds are part of the training's, and the
    study `from-layer` takes them off.
    """
    monkeypatch.setenv("XTL_PREFIX_GIB", "0")
    heads = {"task": head_spec("classify", LABELS, 32, 0.0, Lengths(64, 16))}
    scored: list[int] = []

    def score() -> dict[str, float]:
        scored.append(1)
        if len(scored) in (2, 4):
            raise KeyboardInterrupt
        return {"score": len(scored)}

    def resumed() -> tuple[Prefix, Any]:
        model, host = built("lora", heads=heads)
        model.prefix = prefix_of(model, host)
        try:
            return model.prefix, train_toy(
                model, toy_items("classify", 24), tmp_path, steps=6, score=score
            )
        except KeyboardInterrupt:
            return model.prefix, None

    before = 0
    for _ in range(2):
        _, result = resumed()
        checkpoint = newest_checkpoint(tmp_path)
        assert result is None and checkpoint is not None
        kept = read_state(checkpoint)
        assert kept.states_computed > before and 0 < kept.states_seconds < kept.seconds
        before = kept.states_computed
    prefix, result = resumed()
    assert prefix.cost().computed > 0
    assert result.prefix.computed == before + prefix.cost().computed
    assert kept.states_seconds < result.prefix.seconds < result.seconds


def test_a_file_that_cannot_be_read_now_is_no_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []

    def files() -> PrefixFiles:
        return PrefixFiles({"layer": 2}, 4, 2**20, lines.append)

    first = files()
    with first.writing():
        assert first.add([(b"k" * 16, np.ones((3, 4), dtype=np.uint8))])
    usual = Path.open

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.suffix == ".states":
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    later = files()
    assert later.lacking([b"k" * 16]) and not lines
    monkeypatch.setattr(Path, "open", usual)
    later.scan()
    array = later.get(b"k" * 16)
    assert array is not None and array.sum() == 12 and not lines
