"""A step that runs out of memory: done again in smaller parts, with the same result; and what parts
come to.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from adapters_xtl import cli, formats
from adapters_xtl.backbones import embedded, loading
from adapters_xtl.backbones.registry import NAMED
from adapters_xtl.base.errors import RunError
from adapters_xtl.evaluation import predict
from adapters_xtl.formats import Item
from adapters_xtl.models.network import Model, on_device
from adapters_xtl.runs.hyper import Hyper
from adapters_xtl.training.batches import loss_weights, split, split_by_tokens, weighted
from tests.training.toys import FullDevice, apart, drift, items, model, train, weights


@pytest.fixture(scope="module", autouse=True)
def _tokenizer() -> None:
    embedded.prepare(lambda text: None)


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


@pytest.mark.parametrize("format", ["classify", "choice", "tag", "span"])
@pytest.mark.parametrize(("size", "budget"), [(1, 0), (3, 0), (5, 0), (4, 70)])
def test_the_parts_of_a_batch_give_its_loss_and_gradients(
    format: str, size: int, budget: int
) -> None:
    rows = items(format, 11)
    module = formats.load(format)

    def gradients(part_size: int) -> tuple[float, dict[str, torch.Tensor]]:
        built = model(format)
        built.train()
        by_tokens = budget and part_size < 11
        parts = split_by_tokens(rows, budget, part_size) if by_tokens else split(rows, part_size)
        assert max(map(len, parts)) <= part_size and sum(map(len, parts)) == 11
        total = 0.0
        for part, of_part in zip(parts, loss_weights(module, parts), strict=True):
            batch = on_device(module.collate(part, built.tokenizer), "cpu")
            assert batch["input_ids"].shape[1] == max(item.length for item in part), (
                "padded to its own longest"
            )
            loss = weighted(built("task", batch)["terms"], of_part)
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
            float(
                built("task", on_device(module.collate(part, built.tokenizer), "cpu"))[
                    "loss"
                ].detach()
            )
            for part in split(rows, size)
        ]
        assert abs(sum(means) / len(means) - whole) > 1e-4


@pytest.mark.parametrize("method", ["lora", "bottleneck", "full"])
def test_micro_batches_train_the_same_weights(method: str, tmp_path: Path) -> None:
    rows = items("tag", 40)
    whole, parts = model("tag", method).double(), model("tag", method).double()
    start = weights(whole)
    train(whole, rows, tmp_path / "whole")
    done = train(parts, rows, tmp_path / "parts", micro_batch=3)
    assert done.micro_batch == 3 and done.examples == 32
    assert (
        apart(weights(whole), start) > 1e-3 and drift(weights(whole), weights(parts), start) < 1e-3
    )


@pytest.mark.parametrize(("format", "budget"), [("tag", 130), ("choice", 260)])
def test_a_budget_of_tokens_trains_the_same_weights_with_less_padding(
    format: str, budget: int, tmp_path: Path
) -> None:
    """What is counted is what passed; out of memory halves the budget and not the examples."""
    rows = items(format, 40)
    built = [model(format).double() for _ in range(3)]
    start = weights(built[0])
    passed: list[int] = []
    built[1].heads["task"].register_forward_pre_hook(
        lambda module, inputs: passed.append(inputs[0].shape[:2].numel())
    )
    device = FullDevice(built[2], room=6)
    whole = train(built[0], rows, tmp_path / "whole")
    cut = train(built[1], rows, tmp_path / "cut", hyper={"token_budget": budget})
    said: list[str] = []
    halved = train(built[2], rows, tmp_path / "halved", hyper={"token_budget": budget}, lines=said)
    assert max(passed) <= budget and sum(passed) == cut.padded_tokens
    assert cut.tokens == whole.tokens < cut.padded_tokens < whole.padded_tokens
    assert 1 < cut.micro_batch <= whole.micro_batch == 8
    assert device.raised == len(said) > 0 and "padded tokens at a time" in said[0]
    assert halved.tokens < halved.padded_tokens < cut.padded_tokens
    assert all(drift(weights(built[0]), weights(each), start) < 1e-3 for each in built[1:])
    losses = [[entry["loss"] for entry in each.log if "loss" in entry] for each in (cut, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


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
    expected = train(whole, rows, tmp_path / "whole")
    device = FullDevice(short, room=2 if not steps else 4, steps=steps, error=error)
    said: list[str] = []
    found = train(short, rows, tmp_path / "short", lines=said)
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
    train(small, rows, tmp_path / "small", micro_batch=2)
    device = FullDevice(
        short, room=2, steps=(2,)
    )  # the second part of the first step, with gradients of the first there
    said: list[str] = []
    train(short, rows, tmp_path / "short", micro_batch=4, lines=said)
    assert device.raised == 1 and len(said) == 1
    assert apart(weights(small), weights(short)) == 0


def test_one_example_that_does_not_fit_ends_the_run_with_advice(tmp_path: Path) -> None:
    built = model()
    FullDevice(built, room=0)
    said: list[str] = []
    with pytest.raises(RunError, match=r"step 1 .*\d+ tokens.*--memory"):
        train(built, items("classify", 16), tmp_path, lines=said)
    assert [text.split("with ")[-1].split(";")[0] for text in said] == ["4", "2", "1"]


def test_out_of_memory_elsewhere_keeps_the_checkpoints(tmp_path: Path) -> None:
    """In the evaluation after step 4: the run ends, what was saved after step 2 stays, and the next
    call goes on.
    """
    rows = items("classify", 40)
    whole = model(dropout=True)
    train(whole, rows, tmp_path / "whole", steps=6)
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
        train(built, rows, tmp_path / "run", steps=6, score=score)
    again, said = model(dropout=True), []
    counts = iter(range(2, 10))
    found = train(
        again,
        rows,
        tmp_path / "run",
        steps=6,
        lines=said,
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
    FullDevice(built, room=3, training=False)
    assert np.allclose(outputs(built, rows), expected, atol=1e-5)
    FullDevice(built, room=0, training=False)
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
    FullDevice(built, room=0, error=RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train(built, items("classify", 16), tmp_path)


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
    train(one, rows, tmp_path / "one")
    train(other, rows, tmp_path / "other")
    assert apart(weights(one), weights(other)) == 0
