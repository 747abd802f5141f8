"""Passes of a step that are computed at the same time, and the last layer at the first token: the
same training but for rounding, the same bits again, for both libraries on XLM-R and on a BERT.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapters_xtl import formats
from adapters_xtl.backbones import Backbone, embedded, registry
from adapters_xtl.backbones.registry import NAMED
from adapters_xtl.evaluation import predict as prediction
from adapters_xtl.models.first_token import first_token_alone, is_first_token_layer
from adapters_xtl.models.fused_lora import fused_lora
from adapters_xtl.models.network import Model
from adapters_xtl.models.side_by_side import SharedChange, SideBySide, max_parallel_passes
from adapters_xtl.training.batches import padded_tokens, split_by_tokens, split_evenly
from tests.small_bert import small_bert
from tests.training.toys import apart, items, model, train, weights

BYTES = {"dropout_masks": "bytes", "attention": "eager"}
PARALLEL = {**BYTES, "parallel_passes": 2}
CASES = [("lora", "tiny"), ("bottleneck", "tiny"), ("lora", "bert"), ("bottleneck", "bert")]


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Backbone]:
    embedded.prepare(lambda text: None)
    bert = registry.resolve(str(small_bert(tmp_path_factory.mktemp("bert"))))
    return {"tiny": NAMED["tiny"], "bert": bert}


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Two of torch's threads, whatever the machine has."""
    usual = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(usual)


def rows(backbone: str, count: int = 24, form: str = "classify") -> list[Any]:
    made = items(form, count)
    for item in made if backbone == "bert" else ():
        item.ids = tuple(ids % 50 + 5 for ids in item.ids)
    return made


def losses(result: Any) -> list[float]:
    return [entry["loss"] for entry in result.log if "loss" in entry]


@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_it_is_one_training_however_many_threads_there_are(
    method: str, backbone: str, backbones: dict[str, Backbone], tmp_path: Path, two_threads: None
) -> None:
    """Each pass has masks of its own, which hang on no thread; with two threads, twice, the bits
    are the same. Recomputed layers draw the same masks again.
    """
    found: dict[str, Any] = {}
    for name, threads, options in (
        ("one thread", 1, {}),
        ("two", 2, {}),
        ("two again", 2, {}),
        ("recomputed", 2, {"checkpointing": True}),
    ):
        torch.set_num_threads(threads)
        built = model(method=method, dropout=True, backbone=backbones[backbone])
        result = train(built, rows(backbone), tmp_path / name, hyper=PARALLEL, **options)
        found[name] = losses(result), weights(built)
        assert result.micro_batch == 8, "both passes of the batch at once"
    assert found["two"][0] == found["two again"][0]
    assert apart(found["two"][1], found["two again"][1]) == 0
    assert found["one thread"][0] == pytest.approx(found["two"][0], rel=1e-4)
    assert found["recomputed"][0] == pytest.approx(found["two"][0], rel=1e-4)


@pytest.mark.parametrize(("method", "backbone"), CASES)
@pytest.mark.parametrize("form", ["classify", "choice", "tag", "span"])
def test_without_dropout_it_learns_what_whole_batches_learn(
    method: str,
    backbone: str,
    form: str,
    backbones: dict[str, Backbone],
    tmp_path: Path,
    two_threads: None,
) -> None:
    results = []
    for name, hyper in (
        ("whole", BYTES),
        ("parallel", PARALLEL),
        ("budget", {**PARALLEL, "token_budget": 100}),
        ("three", {**BYTES, "parallel_passes": 3, "lora": "fused" if method == "lora" else "peft"}),
        ("first", {**PARALLEL, "last_layer": "first"}),
    ):
        built = model(form, method=method, backbone=backbones[backbone])
        own = [type(layer) for layer in built.modules()]
        results.append(
            losses(train(built, rows(backbone, form=form), tmp_path / name, hyper=hyper))
        )
        assert own == [type(layer) for layer in built.modules()], "taken off again"
    for result in results[1:]:
        assert result == pytest.approx(results[0], rel=1e-3)


@pytest.mark.parametrize(("method", "lora"), [("bottleneck", "peft"), ("lora", "fused")])
def test_in_bfloat16_it_makes_the_same_steps(
    method: str, lora: str, tmp_path: Path, two_threads: None
) -> None:
    """Under autocast gradients of linear layers come transposed in memory; the optimizer steps along
    them all the same.
    """
    embedded.prepare(lambda text: None)
    found = []
    for name, hyper in (("whole", BYTES), ("parallel", PARALLEL)):
        built = model(method=method)
        start = weights(built)
        settings = {**hyper, "lora": lora, "lr": 0.003}
        train(built, rows("tiny"), tmp_path / name, hyper=settings, dtype="bfloat16", steps=12)
        found.append(weights(built))
    moved = {key: found[0][key] - start[key] for key in start if start[key].dim() == 2}
    for key, along in moved.items():
        other = found[1][key] - start[key]
        cosine = torch.nn.functional.cosine_similarity(along.flatten(), other.flatten(), dim=0)
        assert float(cosine) > 0.9 or float(along.norm()) == 0, key


def test_it_resumes_to_the_same_bits(tmp_path: Path, two_threads: None) -> None:
    embedded.prepare(lambda text: None)
    hyper = {**PARALLEL, "eval_every": 3, "last_layer": "first"}
    whole, broken = model(dropout=True), model(dropout=True)
    train(whole, rows("tiny"), tmp_path / "whole", steps=6, hyper=hyper)
    scores = [0.0]

    def score() -> dict[str, float]:
        if not scores:
            raise KeyboardInterrupt
        return {"score": scores.pop()}

    with pytest.raises(KeyboardInterrupt):
        train(broken, rows("tiny"), tmp_path / "run", steps=6, hyper=hyper, score=score)
    torch.manual_seed(99)
    train(broken, rows("tiny"), tmp_path / "run", steps=6, hyper=hyper, score=lambda: {"score": 1})
    assert apart(weights(whole), weights(broken)) == 0


def test_where_two_passes_are_too_much_they_follow_each_other(
    tmp_path: Path, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the parts are halved, as without parallel passes; what was drawn stays."""
    embedded.prepare(lambda text: None)
    usual, built = Model.forward, [model(dropout=True) for _ in range(3)]
    train(built[0], rows("tiny"), tmp_path / "roomy", hyper=PARALLEL)
    calls: list[int] = []

    def full_once(self: Model, task: str, batch: Any, with_loss: bool = True) -> Any:
        calls.append(len(batch["input_ids"]))
        if len(calls) == 4:  # the second pass of the second step
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return usual(self, task, batch, with_loss)

    monkeypatch.setattr(Model, "forward", full_once)
    lines: list[str] = []
    train(built[1], rows("tiny"), tmp_path / "once", hyper=PARALLEL, lines=lines)
    assert len(lines) == 1 and "one pass at a time; its results stay the same" in lines[0]
    assert apart(weights(built[0]), weights(built[1])) < 1e-4

    def small(self: Model, task: str, batch: Any, with_loss: bool = True) -> Any:
        if len(batch["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return usual(self, task, batch, with_loss)

    monkeypatch.setattr(Model, "forward", small)
    lines.clear()
    result = train(built[2], rows("tiny"), tmp_path / "small", hyper=PARALLEL, lines=lines)
    assert "one pass at a time" in lines[0] and "examples at a time" in lines[1]
    assert result.micro_batch <= 4 and not result.stages[0].steps < 4


@pytest.mark.parametrize("room", [8, 2])
def test_a_lack_of_memory_is_remembered_after_a_kill(
    room: int, tmp_path: Path, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the fourth step on there is no room for two passes, or for more than two examples: the
    third, which is repeated, is computed as it was, and the same weights come out.
    """
    embedded.prepare(lambda text: None)
    usual, refused, begun = Model.forward, list[int](), list[int]()

    def narrow(self: Model, task: str, batch: Any, with_loss: bool = True) -> Any:
        threaded = threading.current_thread() is not threading.main_thread()
        begun.append(1)
        if len(begun) > 6 and (threaded or len(batch["input_ids"]) > room):
            refused.append(1)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return usual(self, task, batch, with_loss)

    monkeypatch.setattr(Model, "forward", narrow)
    lines, built = list[str](), [model(dropout=True) for _ in range(3)]

    def run(number: int, work: Path, *scores: float | None) -> None:
        left = iter(scores)

        def score() -> dict[str, float]:
            found = next(left)
            if found is None:
                raise KeyboardInterrupt
            return {"score": found}

        refused.clear(), lines.clear()
        train(built[number], rows("tiny"), work, steps=6, hyper=PARALLEL, score=score, lines=lines)

    run(0, tmp_path / "whole", 1, 2, 3)
    assert refused and "one pass at a time" in lines[0] and (len(lines) > 1) == (room == 2)
    begun.clear()
    with pytest.raises(KeyboardInterrupt):
        run(1, tmp_path / "run", 1, None)
    assert refused
    del begun[4:]  # the third step is repeated
    run(2, tmp_path / "run", 2, 3)
    assert not refused and lines == ["resuming from step 2 of 6"]
    assert apart(weights(built[0]), weights(built[2])) == 0


@pytest.mark.parametrize("passes", [2, 3, 5])
@pytest.mark.parametrize(("budget", "size"), [(0, 32), (400, 32), (0, 6), (90, 7)])
def test_parts_are_even_and_within_their_bounds(passes: int, budget: int, size: int) -> None:
    whole = items("classify", 32)
    parts = split_evenly(whole, passes, budget, size)
    assert sorted(id(item) for part in parts for item in part) == sorted(map(id, whole))
    lengths = [item.length for part in parts for item in part]
    assert lengths == sorted(lengths)
    tokens = [padded_tokens(part) for part in parts]
    most = size // passes if size < 32 else 32  # examples of a part
    fewest = len(split_by_tokens(whole, budget // passes or 10**9, max(1, most)))
    assert len(parts) <= -(-fewest // passes) * passes
    for part, count in zip(parts, tokens, strict=True):
        assert len(part) <= max(1, most)
        assert not budget or count <= budget // passes or len(part) == 1
    if not budget and size == 32:
        assert len(parts) == passes and max(tokens) < 1.3 * sum(tokens) / passes


@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_scores_of_parallel_passes_at_the_first_token_are_the_libraries(
    method: str, backbone: str, backbones: dict[str, Backbone], two_threads: None
) -> None:
    """Outputs in the order of the rows, equal but for rounding to those of the libraries' own
    layers, one pass after the other.
    """
    built = model(method=method, dropout=True, backbone=backbones[backbone])
    with torch.no_grad():
        for name, value in built.trainable().items():
            value.add_(0.05 * torch.randn_like(value) if "lora_B" in name or "up" in name else 0)
    whole = rows(backbone, 90)
    form = formats.load("classify")

    def call(batch: dict[str, torch.Tensor]) -> list[np.ndarray]:
        return form.outputs(built("task", batch, with_loss=False)["outputs"], batch)

    def outputs(threads: int) -> np.ndarray:
        torch.set_num_threads(threads)
        found = prediction.forward(built, "classify", whole, call, device="cpu", dtype="float32")
        return np.stack(found)

    plain = outputs(1)
    with first_token_alone(built) as first, fused_lora(built, "fused", "torch") as fused:
        assert first and is_first_token_layer(built.last_layer)
        assert bool(fused) == (method == "lora")
        quick = outputs(2)
    assert quick == pytest.approx(plain, abs=1e-4) and np.ptp(plain, axis=0).max() > 1e-3
    assert not is_first_token_layer(built.last_layer)


def test_relative_positions_at_the_first_token(tmp_path: Path) -> None:
    """BERT's attention with relative positions is another: the rest of the layer is cut as ever."""
    bert = registry.resolve(str(small_bert(tmp_path, position_embedding_type="relative_key")))
    built = model(method="bottleneck", backbone=bert).eval()
    batch = {"input_ids": torch.randint(5, 50, (3, 9)), "attention_mask": torch.ones(3, 9).long()}
    batch["attention_mask"][1, 6:] = 0
    with torch.no_grad():
        whole = built.states(batch)
        with first_token_alone(built):
            first = built.states(batch)
    assert first.shape[1] == 1
    assert torch.allclose(first[:, 0], whole[:, 0], atol=1e-5)


def test_a_gate_that_averages_over_the_tokens_gets_every_token() -> None:
    embedded.prepare(lambda text: None)
    built = model(method="bottleneck", options={"use_gating": True})
    with first_token_alone(built) as first:
        assert not first and not is_first_token_layer(built.last_layer)


def test_halving_ends_where_a_batch_has_one_long_example(
    tmp_path: Path, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of equal tokens are three short examples and a long one: half of three, for two passes,
    is the whole batch again.
    """
    embedded.prepare(lambda text: None)
    usual, whole = Model.forward, items("classify", 4)
    for item, length in zip(whole, (10, 12, 14, 60), strict=True):
        item.ids = (np.arange(5, 5 + length, dtype=np.int32),)

    def small(self: Model, task: str, batch: Any, with_loss: bool = True) -> Any:
        if len(batch["input_ids"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return usual(self, task, batch, with_loss)

    monkeypatch.setattr(Model, "forward", small)
    hyper = {**PARALLEL, "batch_size": 4}
    result = train(model(), whole, tmp_path, hyper=hyper, score=lambda: {"score": 1.0})
    assert result.steps == 4 and result.micro_batch == 1, "one example at a time"


def test_scores_of_what_fits_alone_are_there(two_threads: None) -> None:
    """A batch that is too much beside another one is computed again with nothing beside it."""
    embedded.prepare(lambda text: None)
    built, whole = model(), items("classify", 60)

    def call(batch: dict[str, torch.Tensor]) -> list[np.ndarray]:
        if threading.current_thread() is not threading.main_thread() and len(calls) < 3:
            calls.append(len(batch["input_ids"]))
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return [row.numpy() for row in batch["input_ids"][:, :2]]

    calls: list[int] = []
    found = prediction.forward(built, "classify", whole, call, device="cpu", dtype="float32")
    assert len(calls) == 3 and max(calls) > 1
    for item, array in zip(whole, found, strict=True):
        assert array.tolist() == item.ids[0][:2].tolist()


def test_no_thread_stays_where_the_system_gives_too_few(
    two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, usual, started = threading.active_count(), threading.Thread.start, []

    def start(self: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(self)
        usual(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="start new thread"):
        SideBySide(2)
    assert threading.active_count() == before and torch.get_num_threads() == 2


def test_a_head_that_reads_every_token_gets_every_token() -> None:
    embedded.prepare(lambda text: None)
    built = model("tag")
    with first_token_alone(built) as first:
        assert not first and not is_first_token_layer(built.last_layer)


def test_a_pass_has_its_share_of_the_threads_and_no_thread_stays(two_threads: None) -> None:
    before = threading.active_count()
    with SideBySide(2) as both:
        assert list(both.map(lambda number: (number, torch.get_num_threads()), range(5))) == [
            (number, 1) for number in range(5)
        ]
        assert both.several and torch.get_num_threads() == 2
        threads: list[int] = []
        other = threading.Thread(target=lambda: threads.append(torch.get_num_threads()))
        other.start()
        other.join()
        assert threads == [2], "a thread that begins now has what the process has"

        def fails(number: int) -> int:
            if number == 1:
                raise ValueError("one of them")
            return number

        with pytest.raises(ValueError, match="one of them"):
            list(both.map(fails, range(4)))
    assert threading.active_count() == before


def test_quantised_layers_pass_one_at_a_time(two_threads: None) -> None:
    embedded.prepare(lambda text: None)
    assert max_parallel_passes(model(), "cpu") == 2 and max_parallel_passes(model(), "cuda") == 1
    assert max_parallel_passes(model(bits=8), "cpu") == 1


def test_a_shared_change_lasts_until_its_last_user_has_left() -> None:
    made: list[str] = []
    shared = SharedChange()

    def change() -> Any:
        made.append("made")
        return lambda: made.append("undone")

    with shared.made(change):
        with shared.made(change):
            assert made == ["made"]
        assert made == ["made"]
    assert made == ["made", "undone"]


@pytest.mark.slow
def test_gradients_have_the_same_mean_and_spread(
    tmp_path: Path, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over many draws of dropout, of one batch at the same weights: other masks, no other
    distribution.
    """
    embedded.prepare(lambda text: None)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, closure=None: None)
    usual, batch = torch.nn.utils.clip_grad_norm_, items("classify", 32)
    gradients: list[torch.Tensor] = []

    def keep(parameters: Any, clip: float) -> torch.Tensor:
        given = [value for value in parameters if value.grad is not None]
        gradients.append(torch.cat([value.grad.flatten() for value in given]))
        return usual(given, clip)

    monkeypatch.setattr("adapters_xtl.training.fit.nn.utils.clip_grad_norm_", keep)
    means, spreads = [], []
    for name, changes in (
        ("whole", {}),
        ("parallel", {"parallel_passes": 2, "last_layer": "first"}),
    ):
        gradients.clear()
        hyper = {**BYTES, **changes, "batch_size": 32, "eval_every": 50}
        built = model(method="bottleneck", dropout=True)
        train(built, batch, tmp_path / name, hyper=hyper, steps=50)
        every = torch.stack(gradients)
        means.append(every.mean(0))
        spreads.append(float(every.pow(2).sum(1).mean().sqrt()))
    assert len(gradients) == 50 and spreads[1] == pytest.approx(spreads[0], rel=0.1)
    assert float(torch.nn.functional.cosine_similarity(*means, dim=0)) > 0.85
    assert not torch.equal(*means)
