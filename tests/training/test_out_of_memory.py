"""A step that runs out of memory: done again in smaller parts, with the same result; and what parts
come to.
"""

from __future__ import annotations

import gc
import json
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import XLMRobertaConfig, XLMRobertaModel

from adapters_xtl import cli, formats
from adapters_xtl.backbones import Backbone, embedded, loading, registry
from adapters_xtl.backbones.registry import NAMED
from adapters_xtl.base.errors import RequestError, RunError
from adapters_xtl.evaluation import predict
from adapters_xtl.formats._items import IGNORED, Item, Lengths
from adapters_xtl.methods import Link
from adapters_xtl.models.network import HeadSpec, Model, build
from adapters_xtl.runs.settings import Hyper
from adapters_xtl.training import trainer
from adapters_xtl.training.batches import shares, split, weighted
from adapters_xtl.training.trainer import TrainSet

LABELS = ("no", "yes", "maybe")


@pytest.fixture(scope="module", autouse=True)
def _tokenizer() -> None:
    embedded.prepare(lambda text: None)


def items(format: str, count: int, seed: int = 0) -> list[Item]:
    """Items of random ids and lengths, with gold; some of it lacking, as in real rows."""
    rng = np.random.default_rng(seed)

    def ids() -> np.ndarray:
        inside = rng.integers(5, 9000, int(rng.integers(4, 30)))
        return np.concatenate([[0], inside, [2]]).astype(np.int32)

    found = []
    for number in range(count):
        sequence = ids()
        last = len(sequence) - 2
        if format == "classify":
            found.append(Item(number, (sequence,), gold={"label": int(rng.integers(3))}))
        elif format == "choice":
            found.append(
                Item(
                    number,
                    tuple(ids() for _ in range(rng.integers(2, 5))),
                    gold={"label": int(rng.integers(2))},
                )
            )
        elif format == "tag":
            tags = np.where(rng.random(last) < rng.random(), IGNORED, rng.integers(0, 3, last))
            found.append(
                Item(
                    number,
                    (sequence,),
                    gold={"tags": tags},
                    extra={"first": np.arange(1, last + 1)},
                )
            )
        else:
            lacks = rng.random() < 0.4
            span = (0, 0) if lacks else (int(rng.integers(1, last)), last)
            trim = (IGNORED, IGNORED) if lacks else (int(rng.integers(4)), 0)
            found.append(Item(number, (sequence,), gold={"span": span, "trim": trim}))
    return found


def model(
    format: str = "classify",
    method: str = "lora",
    dropout: bool = False,
    bits: int = 32,
    backbone: Backbone = NAMED["tiny"],
) -> Model:
    hidden = int(registry.config(backbone)["hidden_size"])
    spec = HeadSpec(format, LABELS, hidden, 0.1 if dropout else 0.0, Lengths(64, 16))
    built = build(
        backbone,
        bits=bits,
        dtype="float32",
        device="cpu",
        method=method,
        chain=[Link("child")],
        options=DEFAULTS[method],
        from_layer=0,
        heads={"task": spec},
        train=True,
        seed=1,
    )
    if not dropout:
        for module in built.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if hasattr(module, "dropout_prob"):  # attention's
                module.dropout_prob = 0.0
    return built


DEFAULTS: dict[str, dict[str, Any]] = {
    "lora": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": "all-linear"},
    "bottleneck": {
        "mh_adapter": False,
        "output_adapter": True,
        "reduction_factor": 16,
        "non_linearity": "relu",
    },
    "full": {},
}


def fitted(
    built: Model,
    rows: Sequence[Item],
    work: Path,
    *,
    steps: int = 4,
    said: list[str] | None = None,
    score: Callable[[], dict[str, float]] | None = None,
    hyper: dict[str, Any] | None = None,
    **options: Any,
) -> trainer.Fitted:
    settings = Hyper(
        **{
            "lr": 0.01,
            "batch_size": 8,
            "max_steps": steps,
            "eval_every": 2,
            "patience": 0,
            **(hyper or {}),
        }
    )
    counts = iter(range(10**6))
    return trainer.fit(
        built,
        [TrainSet("task", rows)],
        settings,
        seed=1,
        dtype="float32",
        device="cpu",
        work=work,
        score=score or (lambda: {"score": float(next(counts))}),  # the last checkpoint is the best
        notify=(said if said is not None else []).append,
        **options,
    )


def weights(built: Model) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in built.trainable().items()}


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference of two parameters."""
    assert set(one) == set(other)
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def drift(
    one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], start: dict[str, torch.Tensor]
) -> float:
    """|one - other| / |one - start| over all parameters: how far two trainings are apart, as a
    share of what was learnt.

    A norm and no maximum: where a gradient is zero but for rounding, Adam makes whole steps of the
    rounding. `out.bias` is left out for that: a softmax does not see a shift of all its inputs.
    """
    assert set(one) == set(other) == set(start)

    def length(values: dict[str, torch.Tensor]) -> float:
        names = [name for name in one if not name.endswith("out.bias")]
        return float(
            torch.stack([(one[name] - values[name]).square().sum() for name in names]).sum().sqrt()
        )

    return length(other) / length(start)


class Full:
    """A device that holds `room` sequences: beyond it the head raises what an allocator would."""

    def __init__(
        self,
        built: Model,
        room: int,
        steps: Sequence[int] = (),
        error: Exception | None = None,
        training: bool = True,
    ) -> None:
        self.room, self.steps, self.seen, self.raised, self.training = room, steps, 0, 0, training
        self.error = error or torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB."
        )
        built.heads["task"].register_forward_pre_hook(self)

    def __call__(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, Any]) -> None:
        if module.training != self.training:
            return
        self.seen += 1
        if len(inputs[0]) > self.room and (not self.steps or self.seen in self.steps):
            self.raised += 1
            raise self.error


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_outside_a_training_it_costs_a_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def app(**options: bool) -> None:
        raise error

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 1 and capsys.readouterr().err.startswith("xtl: out of memory; ")


def test_one_training_leaves_no_precision_behind_for_the_next(tmp_path: Path) -> None:
    """`Trainer` tells accelerate its precision by an environment variable, which stays."""
    seen: list[bool] = []
    for dtype in ("bfloat16", "float32"):
        built = model()
        built.heads["task"].register_forward_pre_hook(
            lambda *_: seen.append(torch.is_autocast_enabled("cpu"))
        )
        hyper = Hyper(lr=0.01, batch_size=8, max_steps=2, eval_every=2, patience=0)
        trainer.fit(
            built,
            [TrainSet("task", items("classify", 16))],
            hyper,
            seed=1,
            dtype=dtype,
            device="cpu",
            work=tmp_path / dtype,
            score=lambda: {"score": 1.0},
            notify=print,
        )
    assert seen == [True, True, False, False]


@pytest.mark.parametrize("method", ["lora", "bottleneck", "full"])
def test_a_trained_model_is_gone_when_it_is_dropped(method: str, tmp_path: Path) -> None:
    """Two backbones may not fit where one does: nothing of `Trainer` or accelerate may hold on to
    the last one.
    """
    built = model(method=method)
    hyper = Hyper(lr=0.01, batch_size=8, max_steps=2, eval_every=2, patience=0)
    trainer.fit(
        built,
        [TrainSet("task", items("classify", 16))],
        hyper,
        seed=1,
        dtype="bfloat16",
        device="cpu",
        work=tmp_path,
        score=lambda: {"score": 1.0},
        notify=print,
    )
    gone = weakref.ref(next(built.encoder.parameters()))
    del built
    gc.collect()  # as `Host` does before it loads the next one
    assert gone() is None


def test_of_several_devices_one_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Trainer` would split each batch over all the GPUs there are, by a copy of the model on each."""
    made = trainer.TrainingArguments

    def several(**options: Any) -> Any:
        found = made(**options)
        found._n_gpu = 2
        return found

    class Spread(torch.nn.DataParallel):
        def __init__(self, *arguments: Any) -> None:
            raise AssertionError("the model was to be spread over devices")

    monkeypatch.setattr(trainer, "TrainingArguments", several)
    monkeypatch.setattr(torch.nn, "DataParallel", Spread)
    assert fitted(model(), items("classify", 32), tmp_path).examples == 32


@pytest.mark.parametrize("format", ["classify", "choice", "tag", "span"])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_the_parts_of_a_batch_give_its_loss_and_gradients(format: str, size: int) -> None:
    rows = items(format, 11)
    module = formats.load(format)

    def gradients(part_size: int) -> tuple[float, dict[str, torch.Tensor]]:
        built = model(format)
        built.train()
        parts = split(rows, part_size)
        assert max(map(len, parts)) <= part_size and sum(map(len, parts)) == 11
        total = 0.0
        for part, share in zip(parts, shares(parts), strict=True):
            batch = module.collate(part, built.tokenizer)
            assert batch["input_ids"].shape[1] == max(item.length for item in part), (
                "padded to its own longest"
            )
            loss = weighted(built.heads["task"], built("task", batch), batch, share)
            loss.backward()
            total += float(loss.detach())
        return total, {
            name: value.grad.clone()
            for name, value in built.trainable().items()
            if value.grad is not None
        }

    whole, expected = gradients(11)
    found, parts = gradients(size)
    assert found == pytest.approx(whole, rel=1e-6)
    scale = max(float(value.abs().max()) for value in expected.values())
    assert apart(parts, expected) < 1e-5 * scale
    # what a plain mean over parts would come to is another number, but where every part counts the
    # same
    if format == "tag":
        built = model(format)
        means = [
            float(built("task", module.collate(part, built.tokenizer))["loss"].detach())
            for part in split(rows, size)
        ]
        assert abs(sum(means) / len(means) - whole) > 1e-4


@pytest.mark.parametrize("method", ["lora", "bottleneck", "full"])
def test_micro_batches_train_the_same_weights(method: str, tmp_path: Path) -> None:
    rows = items("tag", 40)
    whole, parts = model("tag", method).double(), model("tag", method).double()
    start = weights(whole)
    fitted(whole, rows, tmp_path / "whole")
    done = fitted(parts, rows, tmp_path / "parts", micro_batch=3)
    assert done.micro_batch == 3 and done.examples == 32
    assert (
        apart(weights(whole), start) > 1e-3 and drift(weights(whole), weights(parts), start) < 1e-3
    )


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    MemoryError(),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] data. DefaultCPUAllocator: can't allocate memory: you"
        " tried to allocate 549755813888 bytes. Error code 12 (Cannot allocate memory)"
    ),
]


@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "memory", "allocator"])
@pytest.mark.parametrize("steps", [(), (3,)], ids=["from the first step", "in the third step"])
def test_out_of_memory_changes_nothing_but_the_parts(
    error: Exception, steps: tuple[int, ...], tmp_path: Path
) -> None:
    rows = items("span", 40)
    whole, short = model("span").double(), model("span").double()
    start = weights(whole)
    expected = fitted(whole, rows, tmp_path / "whole")
    device = Full(short, room=2 if not steps else 4, steps=steps, error=error)
    said: list[str] = []
    found = fitted(short, rows, tmp_path / "short", said=said)
    assert device.raised == (1 if steps else 2) and found.micro_batch == (4 if steps else 2)
    warnings = [text for text in said if "out of memory" in text]
    assert len(warnings) == device.raised
    assert "step 3" in warnings[0] if steps else "with 8 examples at a time" in warnings[0]
    assert "the batch stays 8" in warnings[0]
    assert drift(weights(whole), weights(short), start) < 1e-3
    assert [entry["step"] for entry in found.log] == [entry["step"] for entry in expected.log]
    losses = [
        [entry["loss"] for entry in each.log if "loss" in entry] for each in (expected, found)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_failed_step_leaves_no_gradient_and_no_draw_behind(tmp_path: Path) -> None:
    """With dropout: failing in the middle of a step and doing it again equals having used the
    smaller parts at once.
    """
    rows = items("classify", 40)
    small, short = model(dropout=True), model(dropout=True)
    fitted(small, rows, tmp_path / "small", micro_batch=2)
    device = Full(
        short, room=2, steps=(2,)
    )  # the second part of the first step, with gradients of the first there
    said: list[str] = []
    fitted(short, rows, tmp_path / "short", micro_batch=4, said=said)
    assert device.raised == 1 and len(said) == 1
    assert apart(weights(small), weights(short)) == 0


def test_one_example_that_does_not_fit_ends_the_run_with_advice(tmp_path: Path) -> None:
    built = model()
    Full(built, room=0)
    said: list[str] = []
    with pytest.raises(
        RunError, match=r"step 1 with one example \(up to \d+ tokens\).*--memory GB"
    ):
        fitted(built, items("classify", 16), tmp_path, said=said)
    assert [text.split("with ")[-1].split(";")[0] for text in said] == ["4", "2", "1"]


def test_out_of_memory_elsewhere_keeps_the_checkpoints(tmp_path: Path) -> None:
    """In the evaluation after step 4: the run ends, what was saved after step 2 stays, and the next
    call goes on.
    """
    rows = items("classify", 40)
    whole = model(dropout=True)
    fitted(whole, rows, tmp_path / "whole", steps=6)
    built, calls = (
        model(dropout=True),
        iter([None, torch.OutOfMemoryError("CUDA out of memory."), None, None]),
    )

    def score() -> dict[str, float]:
        if error := next(calls):
            raise error
        time.sleep(0.7)
        return {"score": 1.0}

    with pytest.raises(RunError, match="between steps"):
        fitted(built, rows, tmp_path / "run", steps=6, score=score)
    again, said = model(dropout=True), []
    counts = iter(range(2, 10))
    found = fitted(
        again,
        rows,
        tmp_path / "run",
        steps=6,
        said=said,
        score=lambda: {"score": float(next(counts))},
    )
    assert said == ["resuming from step 2 of 6"]
    assert found.examples == 48 and found.seconds > 0.7, (
        "what came before the resume is counted, its seconds too"
    )
    assert apart(weights(whole), weights(again)) == 0


def test_predictions_survive_a_small_device(tmp_path: Path) -> None:
    """Halved until they fit, in the same order, the same but for rounding; and never more than the
    model has room for.
    """
    built, rows, seen = model(), items("classify", 40), []
    expected = outputs(built, rows)
    built.heads["task"].register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].shape[:2].numel())
    )
    built.room = 64
    assert np.allclose(outputs(built, rows), expected, atol=1e-5) and max(seen) <= 64
    built.room = None
    Full(built, room=3, training=False)
    assert np.allclose(outputs(built, rows), expected, atol=1e-5)
    Full(built, room=0, training=False)
    with pytest.raises(torch.OutOfMemoryError):
        outputs(built, rows)


def outputs(built: Model, rows: Sequence[Item]) -> np.ndarray:
    module = formats.load("classify")
    return np.stack(
        predict.forward(
            built,
            "classify",
            rows,
            lambda batch: module.outputs(built("task", batch, with_loss=False)["outputs"], batch),
            device="cpu",
            dtype="float32",
        )
    )


def test_other_errors_are_not_swallowed(tmp_path: Path) -> None:
    built = model()
    Full(built, room=0, error=RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fitted(built, items("classify", 16), tmp_path)


@pytest.mark.parametrize("method", ["lora", "bottleneck", "full"])
@pytest.mark.parametrize("bits", [32, 8])
def test_checkpointing_changes_no_number(method: str, bits: int, tmp_path: Path) -> None:
    if method == "full" and bits == 8:
        pytest.skip("full fine-tuning trains the weights themselves")
    rows = items("classify", 24)
    plain, lean = (model(method=method, bits=bits, dropout=True) for _ in range(2))
    fitted(plain, rows, tmp_path / "plain")
    fitted(lean, rows, tmp_path / "lean", checkpointing=True)
    assert apart(weights(plain), weights(lean)) == 0
    encoder = next(
        module for module in lean.modules() if hasattr(module, "is_gradient_checkpointing")
    )
    assert not encoder.is_gradient_checkpointing, (
        "off again: the encoder may serve the next training"
    )


def test_checkpointing_keeps_less(tmp_path: Path) -> None:
    """Bytes that the graph holds after the forward pass, int8's inputs (kept beside the graph)
    included.
    """
    from tests.memory_meter import Meter

    rows = items("classify", 16)
    for bits in (32, 8):
        kept = []
        for on in (False, True):
            built = model(bits=bits, dropout=True)
            built.train()
            batch = formats.load("classify").collate(rows, built.tokenizer)
            with trainer._checkpointed(built, on), Meter(built) as meter:
                found = built("task", batch)
                kept.append(meter.live)
            del found
        assert kept[1] < 0.25 * kept[0]


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """A checkpoint wide enough for weights of 4096 elements, from which on bitsandbytes keeps 8
    bits.
    """
    path = tmp_path_factory.mktemp("wide")
    settings = {
        **registry.TINY_CONFIG,
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
    }
    XLMRobertaModel(XLMRobertaConfig(**settings), add_pooling_layer=False).save_pretrained(path)
    for name in registry.tokenizer_files(embedded.prepare()):
        (path / name).symlink_to(embedded.prepare() / name)
    return registry.resolve(str(path))


def test_the_8bit_optimizer_trains_and_resumes_exactly(wide: Backbone, tmp_path: Path) -> None:
    rows, hyper = items("classify", 40), {"optimizer": "adamw8bit", "max_steps": 6}
    whole, broken, resumed = (model(method="full", backbone=wide) for _ in range(3))
    fitted(whole, rows, tmp_path / "whole", hyper=hyper)
    assert apart(weights(whole), weights(model(method="full", backbone=wide))) > 1e-3
    calls = iter([False, True])

    def score() -> dict[str, float]:
        if next(calls):
            raise KeyboardInterrupt
        return {"score": 1.0}

    with pytest.raises(KeyboardInterrupt):
        fitted(broken, rows, tmp_path / "run", hyper=hyper, score=score)
    counts = iter(range(2, 10))
    fitted(
        resumed, rows, tmp_path / "run", hyper=hyper, score=lambda: {"score": float(next(counts))}
    )
    assert apart(weights(whole), weights(resumed)) == 0
    state = torch.load(tmp_path / "run" / "checkpoint-6" / "optimizer.pt", weights_only=False)[
        "state"
    ]
    kinds = {
        value.dtype: value.numel()
        for entry in state.values()
        for key, value in entry.get("__bnb_optimizer_quant_state__", entry).items()
        if key == "state1"
    }
    assert set(kinds) == {
        torch.uint8,
        torch.float32,
    }, "8 bits, but for the embeddings and what is small"


def test_8bit_exceptions_do_not_reach_the_next_training(tmp_path: Path) -> None:
    from bitsandbytes.optim import GlobalOptimManager

    fitted(
        model(method="full"),
        items("classify", 16),
        tmp_path,
        hyper={"optimizer": "adamw8bit", "max_steps": 2},
    )
    manager = GlobalOptimManager.get_instance()
    assert not manager.module_weight_config_triple and not manager.index2config


def test_8bit_is_refused_where_bitsandbytes_lacks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        torch._C, "_dispatch_has_kernel_for_dispatch_key", lambda kernel, key: False
    )
    with pytest.raises(RequestError, match=r"bitsandbytes [\d.]+ has no 8-bit optimizer for cpu"):
        fitted(
            model(method="full"), items("classify", 16), tmp_path, hyper={"optimizer": "adamw8bit"}
        )


def test_the_order_and_the_parts_are_no_identity() -> None:
    assert {"micro_batch", "checkpointing", "offload"}.isdisjoint(vars(Hyper()))
    assert Hyper().optimizer == "adamw"


def test_the_table_stays_behind() -> None:
    """Structure: named, saved and read as before; `.to()` takes over the type and leaves the place."""
    plain, _ = loading.load(NAMED["tiny"])
    encoder, _ = loading.load(NAMED["tiny"], offload=True)
    assert list(encoder.state_dict()) == list(plain.state_dict())
    assert loading.weights_digest(encoder) == loading.weights_digest(plain)
    ids = torch.tensor([[0, 100, 2000, 30, 2]])
    with torch.no_grad():
        assert torch.equal(encoder(ids).last_hidden_state, plain(ids).last_hidden_state)
    table = encoder.get_input_embeddings()
    assert (
        isinstance(table, torch.nn.Embedding)
        and table.weight.shape == plain.get_input_embeddings().weight.shape
    )
    torch.nn.Module.to(
        encoder, "meta"
    )  # a device without a machine: everything goes there but the table
    assert table.weight.device.type == "cpu"
    assert {
        parameter.device.type
        for name, parameter in encoder.named_parameters()
        if "word_embed" not in name
    } == {"meta"}
    half, _ = loading.load(NAMED["tiny"], bits=16, offload=True)
    assert half.get_input_embeddings().weight.dtype == torch.bfloat16
    assert table.half().weight.dtype == torch.float16
    plain.load_state_dict(half.float().state_dict())


@pytest.mark.parametrize("method", ["lora", "bottleneck"])
@pytest.mark.parametrize("bits", [32, 8])
def test_training_with_the_table_on_the_cpu(method: str, bits: int, tmp_path: Path) -> None:
    rows = items("classify", 16)
    one = model(method=method, bits=bits)
    other = model(method=method, bits=bits)
    core = next(module for module in other.encoder.modules() if hasattr(module, "embeddings"))
    core.embeddings.word_embeddings = loading._OnCPU.of(core.embeddings.word_embeddings)
    fitted(one, rows, tmp_path / "one")
    fitted(other, rows, tmp_path / "other")
    assert apart(weights(one), weights(other)) == 0


def test_the_log_of_a_run_is_json(tmp_path: Path) -> None:
    done = fitted(model(), items("classify", 16), tmp_path, micro_batch=2)
    json.dumps(done.log)
