"""Techniques that make a training faster, off and on: the same bits, or the same training but for
rounding and draws, for both libraries on XLM-R and on a BERT.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_xtl import formats, methods
from adapters_xtl.backbones import Backbone, embedded, loading, registry
from adapters_xtl.backbones.registry import NAMED
from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.files import read_json
from adapters_xtl.formats import Item, Lengths
from adapters_xtl.methods import Link
from adapters_xtl.models import assembly
from adapters_xtl.models.context import Context
from adapters_xtl.models.dropout_masks import byte_factors, byte_rate
from adapters_xtl.models.encoded_rows import EncodedRows
from adapters_xtl.models.fused_lora import fused_lora
from adapters_xtl.models.network import (
    EncoderSpec,
    Host,
    Model,
    StackSpec,
    build,
    frozen_digest,
)
from adapters_xtl.models.tensors import autocast
from adapters_xtl.planning.finished_modules import serve
from adapters_xtl.planning.plan import Planner
from adapters_xtl.runs.request import Request
from adapters_xtl.runs.settings import SPEED_FIELDS
from adapters_xtl.runs.store import Store
from tests.finished_runs import QUICK, run_recipe
from tests.small_bert import small_bert
from tests.training.toys import LABELS, apart, items, model, train, weights

CASES = [("lora", "tiny"), ("bottleneck", "tiny"), ("lora", "bert"), ("bottleneck", "bert")]


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Backbone]:
    embedded.prepare(lambda text: None)
    bert = registry.resolve(str(small_bert(tmp_path_factory.mktemp("bert"))))
    return {"tiny": NAMED["tiny"], "bert": bert}


def rows(backbone: str, count: int = 24) -> list[Any]:
    made = items("classify", count)
    for item in made if backbone == "bert" else ():
        item.ids = tuple(ids % 50 + 5 for ids in item.ids)
    return made


def products(built: Model, method: str) -> tuple[torch.nn.Linear, ...]:
    return tuple(methods.load(method).products(built.encoder))


@contextlib.contextmanager
def disabled(layers: list[Any]) -> Iterator[None]:
    """The layers without their LoRA."""
    for layer in layers:
        layer._disable_adapters = True
    yield
    for layer in layers:
        layer._disable_adapters = False


@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_weights_that_are_cast_once_change_no_bit(
    method: str, backbone: str, backbones: dict[str, Backbone], tmp_path: Path
) -> None:
    results, trained, kinds = [], [], set()
    for name in ("every step", "once"):
        built = model(method=method, dropout=True, backbone=backbones[backbone])
        layers = products(built, method)
        frozen = [layer.weight for layer in layers if not layer.weight.requires_grad]
        before, digest = [weight.data_ptr() for weight in frozen], frozen_digest(built)

        def score(frozen: list[Any] = frozen) -> dict[str, float]:
            kinds.add((name, *{weight.dtype for weight in frozen}))
            return {"score": 1.0}

        casts = layers if name == "once" else ()
        options = {"dtype": "bfloat16", "cast_once": casts, "score": score}
        results.append(train(built, rows(backbone), tmp_path / name, **options).log)
        trained.append(weights(built))
        assert [weight.data_ptr() for weight in frozen] == before and digest == frozen_digest(built)
        assert len(frozen) >= 12, "every product of both layers"
    assert kinds == {("every step", torch.float32), ("once", torch.bfloat16)}
    assert results[0] == results[1]
    assert apart(*trained) == 0


@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_faster_layers_learn_the_same(
    method: str, backbone: str, backbones: dict[str, Backbone], tmp_path: Path
) -> None:
    """Attention as products draws what torch's draws, and so does a fused LoRA: the losses differ
    by rounding. Masks of bytes are other masks; where there is no dropout they change nothing.
    """
    results: dict[str, list[float]] = {}
    for name, dropout, hyper in (
        ("plain", True, {}),
        ("eager", True, {"attention": "eager"}),
        ("bytes", True, {"dropout_masks": "bytes", "attention": "eager"}),
        ("fused", True, {"lora": "fused"}),
        ("no dropout", False, {}),
        ("no dropout, bytes", False, {"dropout_masks": "bytes", "attention": "eager"}),
    ):
        built = model(method=method, dropout=dropout, backbone=backbones[backbone])
        own = [type(layer) for layer in built.modules()]
        log = train(built, rows(backbone), tmp_path / name, hyper=hyper).log
        results[name] = [entry["loss"] for entry in log if "loss" in entry]
        assert own == [type(layer) for layer in built.modules()], "taken off again"
    assert results["eager"] == pytest.approx(results["plain"], rel=1e-3)
    assert results["fused"] == pytest.approx(results["plain"], rel=1e-3)
    assert results["no dropout, bytes"] == pytest.approx(results["no dropout"], rel=1e-3)
    assert results["bytes"] != pytest.approx(results["eager"], rel=1e-3)
    assert results["bytes"] == pytest.approx(results["plain"], rel=0.4)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.001])
def test_bytes_drop_at_their_rate_and_keep_the_mean(rate: float) -> None:
    torch.manual_seed(3)
    factors = byte_factors((64, 4099), rate, torch.float32, torch.device("cpu"))
    real = byte_rate(rate)
    assert abs(real - rate) <= 1 / 512 or real == 1 / 256
    values = sorted(set(factors.flatten().tolist()))
    assert values == pytest.approx([0, 1 / (1 - real)])
    deviation = (real * (1 - real) / factors.numel()) ** 0.5
    zeros = factors == 0
    assert abs(float(zeros.float().mean()) - real) < 5 * deviation
    by_byte = [float(zeros.flatten()[number::8].float().mean()) for number in range(8)]
    assert by_byte == pytest.approx([real] * 8, abs=5 * 8**0.5 * deviation), "every byte of a draw"
    neighbours = float((zeros[:, 1:] & zeros[:, :-1]).float().mean())
    assert neighbours == pytest.approx(real**2, abs=5 * deviation)


def test_a_training_with_masks_of_bytes_resumes_to_the_same_bits(
    backbones: dict[str, Backbone], tmp_path: Path
) -> None:
    """Their draws are torch's: kept in checkpoints, and drawn again where a layer is recomputed or
    a step is repeated.
    """
    hyper = {"dropout_masks": "bytes", "attention": "eager", "eval_every": 3}
    whole, broken, recomputed = (model(dropout=True) for _ in range(3))
    expected = train(whole, rows("tiny"), tmp_path / "whole", steps=6, hyper=hyper)
    scores = [0.0]

    def score() -> dict[str, float]:
        if not scores:
            raise KeyboardInterrupt
        return {"score": scores.pop()}

    with pytest.raises(KeyboardInterrupt):
        train(broken, rows("tiny"), tmp_path / "run", steps=6, hyper=hyper, score=score)
    torch.manual_seed(99)
    options: dict[str, Any] = {"hyper": hyper, "score": lambda: {"score": 1.0}}
    resumed = train(broken, rows("tiny"), tmp_path / "run", steps=6, **options)
    assert resumed.log[-2]["loss"] == expected.log[-2]["loss"]
    assert apart(weights(whole), weights(broken)) == 0
    options = {"hyper": hyper, "checkpointing": True}
    again = train(recomputed, rows("tiny"), tmp_path / "recomputed", steps=6, **options)
    losses = [
        [entry["loss"] for entry in log if "loss" in entry] for log in (expected.log, again.log)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4) and len(losses[0]) == 6


def test_a_layer_whose_weight_is_read_otherwise_is_not_cast(
    backbones: dict[str, Backbone],
) -> None:
    """DoRA takes the norm of the weight that it stands on."""
    options = {"r": 4, "use_dora": True, "target_modules": ["query"]}
    stack, bare = StackSpec([Link("child")], options), EncoderSpec(backbones["bert"], "lora")
    built = build(bare, stack, {}, train=True)
    layers = {id(layer) for layer in products(built, "lora")}
    names = {name for name, layer in built.named_modules() if id(layer) in layers}
    assert not any("query.base_layer" in name for name in names)
    assert sum(name.endswith(".key") for name in names) == 2


def test_what_changes_speed_alone_is_no_identity(tmp_path: Path) -> None:
    """The same id, the same bytes; the record says how it was trained."""
    made = []
    for name in ("true", "false"):
        set_ = (*QUICK, "train.dtype=bfloat16", *(f"speed.{key}={name}" for key in SPEED_FIELDS))
        made.append(run_recipe(tmp_path / name, "mnli", set_=set_, languages="en"))
    one, other = (Path(run["path"]) for run in made)
    assert made[0]["id"] == made[1]["id"]
    files = [path.relative_to(one) for path in one.glob("[!.]*/**/*") if path.is_file()]
    assert {path.parts[0] for path in files} == {"module", "head", "predictions"}
    assert all((one / path).read_bytes() == (other / path).read_bytes() for path in files)
    for run, value in ((one, True), (other, False)):
        speed = read_json(run / "provenance.json")["speed"]
        assert speed == dict.fromkeys(SPEED_FIELDS, value)


def test_merged_modules_predict_the_same_and_leave_the_stack_as_it_was(tmp_path: Path) -> None:
    """A stack of two, scored as it is and merged: logits differ by rounding."""
    set_ = (*QUICK, "train.lr=0.05")
    request: dict[str, Any] = {"on": "mnli", "method": "lora", "set_": set_, "languages": "en"}
    request |= {"set_parents": set_}
    run = run_recipe(tmp_path, "pawsx", **request)
    store = Store(tmp_path)
    asked = Request("pawsx", backbone="tiny", data="embedded", device="cpu", runs=str(tmp_path))
    plan = serve(asked, run["path"], store).plan
    context = Context(plan, store, Host(), lambda text: None)
    built = assembly.trained_model(context, plan.target)
    tensors = {name: value.clone() for name, value in built.state_dict().items()}
    batch = {"input_ids": torch.randint(5, 900, (3, 9)), "attention_mask": torch.ones(3, 9).long()}
    states = []
    with torch.inference_mode():
        usual = built.states(batch)
        for dtype in ("float32", "bfloat16"):
            lora = methods.load("lora")
            with lora.merged(built.encoder, dtype), autocast("cpu", dtype):
                states.append(built.states(batch).float())
        parts = [part for part in built.modules() if hasattr(part, "lora_A")]
        with disabled(parts):
            bare = built.states(batch)
        assert torch.equal(built.states(batch), usual)
    worth = float((bare - usual).norm())
    assert float((states[0] - usual).norm()) < 1e-4 * worth
    assert 0 < float((states[1] - usual).norm()) < 0.03 * float(usual.norm())
    after = built.state_dict()
    assert set(after) == set(tensors)
    assert all(torch.equal(after[name], value) for name, value in tensors.items())

    merged = run_recipe(tmp_path, "pawsx", **{**request, "set_": (*set_, "eval.merged=true")})
    assert merged["id"] != run["id"], "an evaluation of its own, of the same module"
    assert read_json(Path(merged["path"]) / "spec.json")["evaluation"]["merged"] is True
    with pytest.raises(RequestError, match=r"eval\.merged: not for method bottleneck"):
        run_recipe(tmp_path, "pawsx", method="bottleneck", set_=("eval.merged=true",))


def test_settings_of_speed_are_switches() -> None:
    for text in ("speed.cast_once=1", "speed.cast_onse=true"):
        with pytest.raises(RequestError, match=r"speed\.cast_once") as refusal:
            run_recipe(Path("none"), "mnli", set_=(text,))
        assert "true or false" in str(refusal.value) or "did you mean" in str(refusal.value)


def test_rows_are_encoded_once() -> None:
    embedded.prepare(lambda text: None)
    tokenizer, form = loading.tokenizer(NAMED["tiny"]), formats.load("classify")
    examples = [{"text": text, "label": "yes"} for text in ("one two", "three")]
    kept = EncodedRows(room=250)

    def encode(changed: str = "three", length: int = 64) -> list[Item]:
        rows = [examples[0], {**examples[1], "text": changed}]
        lengths = Lengths(length, 16)
        made = kept.encode("classify", rows, LABELS, tokenizer, lengths, train=False)
        plain = form.encode(rows, LABELS, tokenizer, lengths, train=False)
        assert [item.ids[0].tolist() for item in made] == [item.ids[0].tolist() for item in plain]
        assert [item.gold for item in made] == [item.gold for item in plain]
        return made

    first = encode()
    assert encode() is first
    assert encode("four") is not first and encode() is not first, "there was no room for both"
    assert encode(length=8) is not first
    assert EncodedRows(room=10).encode(
        "classify", examples, LABELS, tokenizer, Lengths(64, 16), train=False
    ), "a set that is larger than the room is encoded and not kept"


def test_fused_lora_layers_compute_what_pefts_do(tmp_path: Path) -> None:
    """A frozen parent and a child that trains, with dropout: outputs and gradients differ by
    rounding, and another length of the batch's rows is no other sum.
    """
    options = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.2, "target_modules": "all-linear"}
    lower = build(
        EncoderSpec(NAMED["tiny"], "lora"), StackSpec([Link("mnli")], options), {}, train=True
    )
    methods.load("lora").randomize(lower.encoder)
    methods.load("lora").save(lower.encoder, "mnli", tmp_path / "mnli")
    chain = [Link("mnli", tmp_path / "mnli"), Link("child")]
    built = build(EncoderSpec(NAMED["tiny"], "lora"), StackSpec(chain, options), {}, train=True)
    methods.load("lora").randomize(built.encoder)
    batch = {"input_ids": torch.randint(5, 900, (3, 9)), "attention_mask": torch.ones(3, 9).long()}
    directions = torch.randn(3, 9, 32, generator=torch.Generator().manual_seed(2))

    def computed(choice: str, masks: str, dtype: str) -> tuple[int, list[torch.Tensor]]:
        built.train()
        built.zero_grad()
        torch.manual_seed(5)
        with fused_lora(built, choice, masks) as count, autocast("cpu", dtype):
            states = built.states(batch).float()
        (states * directions).sum().backward()
        gradients = [value.grad for value in built.trainable().values()]
        assert all(gradient is not None for gradient in gradients)
        return count, [states.detach(), *(one for one in gradients if one is not None)]

    for dtype, tolerance in (("float32", 1e-5), ("bfloat16", 0.05)):
        without, usual = computed("peft", "torch", dtype)
        count, fused = computed("fused", "torch", dtype)
        assert (without, count) == (0, 24), "six products in each of four layers"
        for one, other in zip(fused, usual, strict=True):
            assert float((one - other).norm()) <= tolerance * float(other.norm())
    other_masks = computed("fused", "bytes", "float32")[1]
    assert float((other_masks[0] - fused[0]).norm()) > 0.01 * float(fused[0].norm())
    assert not any("forward" in vars(layer) for layer in built.modules())


@pytest.mark.parametrize(
    ("task", "extra", "request_options"),
    [
        ("multi", ["train.tasks=mnli,panx,squad1,csqa"], {}),
        ("pawsx", [], {"on": "csqa"}),
    ],
    ids=["several tasks", "stack of fused parents"],
)
def test_fused_lora_layers_train_as_pefts_do(
    task: str, extra: list[str], request_options: dict[str, Any], runs: Path
) -> None:
    """Ten steps, of every parent too: other runs, whose losses differ by rounding."""
    short = ["train.max_steps=10", "train.eval_every=10", "train.select_examples=10"]
    short += ["train.max_examples=160", "train.dtype=float32", "train.lr=0.003"]
    ids, curves = [], []
    for choice in ("peft", "fused"):
        settings = [*short, f"train.lora={choice}"]
        made = run_recipe(
            *(runs, task),
            set_=[*settings, *extra],
            set_parents=settings,
            method="lora",
            **request_options,
        )
        ids.append(made["id"])
        lines = (Path(made["path"]) / "train_log.jsonl").read_text().splitlines()
        curves.append([entry["loss"] for entry in map(json.loads, lines) if "loss" in entry])
    assert ids[0] != ids[1] and len(curves[0]) == 5
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"method": "bottleneck"}, "means nothing for method bottleneck"),
        ({"method": "lora", "bits": "8"}, "layers of 8 bits"),
        ({"method": "lora", "extra": ("method.use_dora", True)}, "not with method.use_dora"),
    ],
)
def test_fused_lora_is_refused_where_it_would_replace_nothing(
    asked: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    extra = [asked.pop("extra")] if "extra" in asked else []
    request = Request(
        task="mnli",
        backbone="tiny",
        data="embedded",
        device="cpu",
        overrides=(("train.lora", "fused"), *extra),
        **asked,
    )
    with pytest.raises(RequestError, match=reason):
        Planner(Store(tmp_path)).plan(request)
