"""The training loop: the same losses as before, resuming, early stopping, stages, precision."""

from __future__ import annotations

import gc
import json
import math
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_xtl import formats
from adapters_xtl.backbones import embedded
from adapters_xtl.base.errors import RequestError, RunError
from adapters_xtl.models.network import Model, on_device
from adapters_xtl.runs.hyper import Hyper
from adapters_xtl.training.batches import TrainSet
from adapters_xtl.training.checkpoints import newest_checkpoint, read_state
from adapters_xtl.training.fit import fit, gradient_checkpointing
from adapters_xtl.training.stages import Stage, Training, TrainingResult
from tests.memory_meter import Meter
from tests.training.toys import FullDevice, apart, items, model, train, weights

Scores = Callable[[], dict[str, float]]


@pytest.fixture(scope="module", autouse=True)
def _tokenizer() -> None:
    embedded.prepare(lambda text: None)


def in_turn(*scores: float | type[BaseException]) -> Scores:
    """A select score for each evaluation; an exception stands for a process that ends there."""
    remaining: Iterator[float | type[BaseException]] = iter(scores)

    def score() -> dict[str, float]:
        value = next(remaining)
        if isinstance(value, type):
            raise value
        return {"score": value}

    return score


def losses(result: TrainingResult) -> list[Any]:
    return [entry["loss"] for entry in result.log if "loss" in entry]


# recorded with the Hugging Face `Trainer` (transformers 4.57.6), which trained here before: losses
# to four decimals, gradient norms before clipping, and the norm of all trained weights at the end
RECORDED = {
    "float32": (
        ("lora", "classify", {}, {}),
        [1.0804, 1.1246, 1.1083, 1.0978, 1.1445, 1.1261, 1.0896, 1.0825],
        [0.4819, 0.6247, 0.4671, 0.6279, 0.6505, 0.6387, 0.6225, 0.5574],
        4.830218756798134,
    ),
    "bfloat16, parts of 3, clipped at 0.5, decay": (
        (
            "bottleneck",
            "tag",
            {"clip": 0.5, "weight_decay": 0.1},
            {"dtype": "bfloat16", "micro_batch": 3},
        ),
        [1.1093, 1.1168, 1.0677, 1.0783, 1.1677, 1.109, 1.0729, 1.1024],
        [0.5037, 0.475, 1.1102, 1.1395, 0.7554, 0.6273, 1.1463, 0.5752],
        1.4889805765126911,
    ),
    "all weights, parts of 5, long warm-up": (
        ("full", "span", {"lr": 1e-3, "warmup": 0.3}, {"micro_batch": 5}),
        [5.9909, 6.1176, 5.1828, 4.7061, 5.6841, 6.1023, 5.1674, 5.9785],
        [0.5965, 0.6351, 0.7475, 0.605, 0.6076, 0.6379, 0.6614, 0.5969],
        141.86420022457543,
    ),
    "all weights, 8-bit optimizer, no clipping, decay": (
        (
            "full",
            "choice",
            {"lr": 1e-3, "optimizer": "adamw8bit", "clip": 0.0, "weight_decay": 0.1},
            {},
        ),
        [1.1711, 1.3509, 0.7944, 0.693, 1.0844, 1.3491, 0.7929, 1.1679],
        [],
        141.8081031318181,
    ),
}


@pytest.mark.parametrize("case", RECORDED)
def test_the_loss_curve_is_the_recorded_one(case: str, tmp_path: Path) -> None:
    (method, format, hyper, options), expected_losses, norms, length = RECORDED[case]
    built = model(format, method, dropout=True)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, value in sorted(built.trainable().items()):
            value.copy_(torch.randn(value.shape, generator=generator) * 0.05)
    hyper = {"eval_every": 4, **hyper}
    result = train(built, items(format, 40), tmp_path, steps=8, hyper=hyper, **options)
    # bfloat16 rounds differently on other processors
    close = {"rel": 1e-3 if "bfloat16" in case else 1e-4}
    assert losses(result) == pytest.approx(expected_losses, **close)
    logged = [entry["grad_norm"] for entry in result.log if "grad_norm" in entry]
    assert logged == pytest.approx(norms, rel=2e-2 if "bfloat16" in case else 1e-3)
    squares = [float(value.double().square().sum()) for value in weights(built).values()]
    assert math.sqrt(sum(squares)) == pytest.approx(
        length, rel=1e-3 if "bfloat16" in case else 1e-5
    )


def test_the_log_says_what_users_read(tmp_path: Path) -> None:
    result = train(model(), items("classify", 16), tmp_path, steps=4)
    steps, evaluations = (
        [entry for entry in json.loads(json.dumps(result.log)) if key in entry]
        for key in ("loss", "eval_score")
    )
    assert [entry["step"] for entry in steps] == [1, 2, 3, 4]
    assert [entry["step"] for entry in evaluations] == [2, 4]
    assert set(steps[0]) == {"loss", "grad_norm", "learning_rate", "epoch", "step"}
    assert [entry["epoch"] for entry in evaluations] == [1, 2], "16 examples, 8 a step"
    assert steps[0]["learning_rate"] == 0 and steps[1]["learning_rate"] == 0.01


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_killed_training_resumes_to_the_same_bits(method: str, tmp_path: Path) -> None:
    rows, hyper = items("classify", 60), {"eval_every": 6}
    whole, broken, resumed = (model(method=method, dropout=True) for _ in range(3))
    expected = train(whole, rows, tmp_path / "whole", steps=17, hyper=hyper)
    with pytest.raises(KeyboardInterrupt):
        score = in_turn(0, 1, KeyboardInterrupt)
        train(broken, rows, tmp_path / "run", steps=17, hyper=hyper, score=score)
    torch.manual_seed(99)  # what another process, or another training before it, drew
    lines: list[str] = []
    result = train(
        resumed, rows, tmp_path / "run", steps=17, hyper=hyper, score=in_turn(2), lines=lines
    )
    assert lines == ["resuming from step 12 of 17"]
    assert apart(weights(whole), weights(resumed)) == 0
    assert result.log == expected.log and result.stages == expected.stages


def test_scoring_changes_no_training(tmp_path: Path) -> None:
    """Whatever the evaluation draws at random, and however often it comes."""
    trained = []
    for every, draws in ((4, 0), (4, 7), (1, 7)):
        built, scores = model(dropout=True), iter(range(10))

        def score(draws: int = draws, scores: Iterator[int] = scores) -> dict[str, float]:
            torch.rand(draws)
            return {"score": next(scores)}

        folder, hyper = tmp_path / f"{every} {draws}", {"eval_every": every}
        train(built, items("classify", 40), folder, steps=4, hyper=hyper, score=score)
        trained.append(weights(built))
    assert apart(trained[0], trained[1]) == apart(trained[0], trained[2]) == 0


def test_early_stopping_keeps_the_best_and_stays_stopped(tmp_path: Path) -> None:
    rows, hyper = items("classify", 40), {"eval_every": 1, "patience": 2}
    built = model(dropout=True)
    result = train(built, rows, tmp_path, steps=9, hyper=hyper, score=in_turn(1, 5, 5, 4), lines=[])
    (stage,) = result.stages
    assert (stage.best_step, stage.scores, stage.steps, stage.planned_steps) == (
        2,
        {"score": 5},
        4,
        9,
    )
    best = model(dropout=True)
    short = {**hyper, "patience": 0}
    train(best, rows, tmp_path / "best", steps=9, hyper=short, score=in_turn(1, *[0] * 8))
    again = model(dropout=True)
    repeated = train(again, rows, tmp_path, steps=9, hyper=hyper, score=in_turn())
    assert apart(weights(again), weights(built)) == 0 and repeated.stages == result.stages
    assert apart(weights(built), weights(best)) > 0, "the second step's weights, not the first's"


def test_an_interruption_keeps_the_count_of_early_stopping(tmp_path: Path) -> None:
    rows, hyper = items("classify", 40), {"eval_every": 1, "patience": 2}
    with pytest.raises(KeyboardInterrupt):
        score = in_turn(5, 4, KeyboardInterrupt)
        train(model(), rows, tmp_path, steps=9, hyper=hyper, score=score)
    result = train(model(), rows, tmp_path, steps=9, hyper=hyper, score=in_turn(4))
    assert result.steps == 3 and result.stages[0].best_step == 1


def staged(
    built: Model, work: Path, scores: list[Scores], *, lines: list[str] | None = None, **hyper: Any
) -> TrainingResult:
    """Two stages: sixty rows, then eight others."""
    rows = items("classify", 68)
    stages = [
        Stage("large", [TrainSet("task", rows[:60])], scores[0]),
        Stage("small", [TrainSet("task", rows[60:])], scores[1]),
    ]
    settings = {"lr": 0.01, "batch_size": 4, "eval_every": 2, "patience": 0, **hyper}
    return fit(
        Training(
            model=built,
            stages=stages,
            hyper=Hyper(**settings),
            seed=1,
            dtype="float32",
            device="cpu",
            work=work,
            notify=(lines if lines is not None else []).append,
        )
    )


def test_every_stage_has_its_own_schedule_and_choice(tmp_path: Path) -> None:
    built = model()
    scores = [in_turn(3, 9, 2, 1), in_turn(5, 4)]
    result = staged(built, tmp_path, scores, max_steps=12, epochs=2.0)
    large, small = result.stages
    assert (large.planned_steps, small.planned_steps) == (8, 4), "two passes over the eight rows"
    assert (large.best_step, small.best_step) == (4, 10)
    assert (large.scores, small.scores) == ({"score": 9}, {"score": 5})
    assert (large.examples, small.examples, result.examples) == (32, 16, 48)
    rates = {entry["step"]: entry["learning_rate"] for entry in result.log if "loss" in entry}
    assert rates[1] == rates[9] == 0 and rates[2] == rates[10] == 0.01, "each warms up, and peaks"
    assert {entry["stage"] for entry in result.log if entry["step"] > 8} == {2}


def test_a_line_of_the_log_is_about_one_stage(tmp_path: Path) -> None:
    """Eleven steps, logged every two, then six: the eleventh is in no line of the second stage."""

    def rising() -> Scores:
        scores = iter(range(100))
        return lambda: {"score": next(scores)}

    each, paired = (
        staged(
            model(),
            tmp_path / str(eval_every),
            [rising(), rising()],
            max_steps=17,
            epochs=3.0,
            eval_every=eval_every,
        )
        for eval_every in (1, 10)
    )
    by_step = {entry["step"]: entry["loss"] for entry in each.log if "loss" in entry}
    means = {entry["step"]: entry["loss"] for entry in paired.log if "loss" in entry}
    assert sorted(means) == [2, 4, 6, 8, 10, 12, 13, 14, 15, 16, 17]
    assert means[2] == pytest.approx((by_step[1] + by_step[2]) / 2, rel=1e-4)
    assert means[12] == pytest.approx(by_step[12], rel=1e-4)


def test_the_second_stage_starts_from_the_best_of_the_first(tmp_path: Path) -> None:
    """The second stage's only step has the rate 0 of the warm-up: what it keeps is the first's."""
    built, alone = model(dropout=True), model(dropout=True)
    result = staged(built, tmp_path / "two", [in_turn(3, 9, 2), in_turn(1)], epochs=0.4)
    assert [stage.steps for stage in result.stages] == [6, 1]
    hyper = {"epochs": 0.4, "batch_size": 4, "max_steps": 0}
    rows = items("classify", 68)[:60]
    train(alone, rows, tmp_path / "one", hyper=hyper, score=in_turn(3, 9, 2))
    assert apart(weights(built), weights(alone)) == 0


@pytest.mark.parametrize("kill", [(0, 2), (0, 4), (1, 0), (1, 1)], ids=str)
def test_a_staged_training_resumes_to_the_same_bits(kill: tuple[int, int], tmp_path: Path) -> None:
    """Killed in either stage: before its first checkpoint, and after."""
    scores: list[list[Any]] = [[1, 9, 2, 3, 4], [7, 8, 5]]
    whole, broken, resumed = (model(dropout=True) for _ in range(3))
    options = {"max_steps": 15, "epochs": 3.0, "patience": 3}
    expected = staged(whole, tmp_path / "whole", [in_turn(*each) for each in scores], **options)
    assert [stage.steps for stage in expected.stages] == [9, 6]
    stage, place = kill
    cut = [list(each) for each in scores]
    cut[stage][place] = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        staged(broken, tmp_path / "run", [in_turn(*each) for each in cut], **options)
    rest = [scores[0][place:], scores[1]] if stage == 0 else [[], scores[1][place:]]
    result = staged(resumed, tmp_path / "run", [in_turn(*each) for each in rest], **options)
    assert apart(weights(whole), weights(resumed)) == 0
    assert result.stages == expected.stages and result.log == expected.log


def test_fewer_steps_than_stages_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"max_steps=1.*2 stages"):
        staged(model(), tmp_path, [in_turn(), in_turn()], max_steps=1)


def test_halved_parts_survive_a_kill(tmp_path: Path) -> None:
    """Halved in the third step, after the checkpoint of the second, and killed: the resumed training
    takes the third step in halves at once.
    """
    rows = items("classify", 40)
    whole, broken, resumed = (model(dropout=True) for _ in range(3))
    FullDevice(whole, room=4, steps=(3,))
    train(whole, rows, tmp_path / "whole", steps=6)
    FullDevice(broken, room=4, steps=(3,))
    with pytest.raises(KeyboardInterrupt):
        train(broken, rows, tmp_path / "run", steps=6, score=in_turn(0, KeyboardInterrupt))
    device, lines = FullDevice(resumed, room=4), list[str]()
    result = train(resumed, rows, tmp_path / "run", steps=6, score=in_turn(1, 2), lines=lines)
    assert device.raised == 0 and lines == ["resuming from step 2 of 6"]
    assert result.micro_batch == 4 and apart(weights(whole), weights(resumed)) == 0


def test_a_loss_that_is_no_number_ends_the_run_before_a_checkpoint(tmp_path: Path) -> None:
    built = model()
    seen: list[int] = []

    def poison(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        seen.append(1)
        return output * (math.nan if len(seen) == 13 else 1)

    built.heads["task"].register_forward_hook(poison)
    with pytest.raises(RunError, match=r"loss is nan at step 13.*train\.lr"):
        train(built, items("classify", 40), tmp_path, steps=26, hyper={"eval_every": 13})
    assert newest_checkpoint(tmp_path) is None


def test_a_score_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    result = train(model(), items("classify", 16), tmp_path, score=in_turn(math.nan, 3))
    assert result.stages[0].best_step == 4
    assert [entry["eval_score"] for entry in result.log if "eval_score" in entry] == [None, 3]
    with pytest.raises(RunError, match="no evaluation"):
        score = in_turn(math.nan, math.nan)
        train(model(), items("classify", 16), tmp_path / "none", score=score)


def test_checkpoints_are_the_newest_two_and_the_best(tmp_path: Path) -> None:
    score = in_turn(1, 9, 2, 3, 4, 5)
    train(model(), items("classify", 16), tmp_path, steps=6, hyper={"eval_every": 1}, score=score)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["checkpoint-2", "checkpoint-5", "checkpoint-6"]
    newest = newest_checkpoint(tmp_path)
    assert newest is not None and read_state(newest).step == 6


def test_a_full_disk_is_one_line_and_keeps_what_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = torch.save

    def full(content: Any, path: Path) -> None:
        if "checkpoint-4" in str(path):
            raise RuntimeError("unexpected pos 64 vs 0: No space left on device")
        saved(content, path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RunError, match="checkpoint-4"):
        train(model(), items("classify", 16), tmp_path)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None and newest.name == "checkpoint-2"


def test_float16_skips_a_step_that_overflows(tmp_path: Path) -> None:
    """The scaler halves its scale, the weights and the learning rate stay; resuming keeps the
    scale.
    """
    built, passes = model(), iter([2.0**17])  # a gradient beyond float16 in the first pass

    def overflow(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output * next(passes, 1.0)

    built.heads["task"].register_forward_hook(overflow)
    result = train(built, items("classify", 16), tmp_path, steps=4, dtype="float16")
    newest = newest_checkpoint(tmp_path)
    assert newest is not None and read_state(newest).stages[0].skipped >= 1
    assert result.steps == 4
    saved = torch.load(newest / "optimizer.pt", weights_only=True)
    assert saved["scaler"]["scale"] < 65536


def test_one_training_leaves_no_precision_behind_for_the_next(tmp_path: Path) -> None:
    seen: list[bool] = []
    for dtype in ("bfloat16", "float32"):
        built = model()
        built.heads["task"].register_forward_pre_hook(
            lambda *_: seen.append(torch.is_autocast_enabled("cpu"))
        )
        train(built, items("classify", 16), tmp_path / dtype, steps=2, dtype=dtype)
    assert seen == [True, True, False, False]


@pytest.mark.parametrize("method", ["lora", "bottleneck", "full"])
def test_a_trained_model_is_gone_when_it_is_dropped(method: str, tmp_path: Path) -> None:
    """Two backbones may not fit where one does: nothing may hold on to the last one."""
    built = model(method=method)
    train(built, items("classify", 16), tmp_path, steps=2, dtype="bfloat16")
    gone = weakref.ref(next(built.encoder.parameters()))
    del built
    gc.collect()  # as `Host` does before it loads the next one
    assert gone() is None


@pytest.mark.parametrize("method", ["lora", "bottleneck", "full"])
@pytest.mark.parametrize("bits", [32, 8])
def test_checkpointing_changes_no_number(method: str, bits: int, tmp_path: Path) -> None:
    if method == "full" and bits == 8:
        pytest.skip("full fine-tuning trains the weights themselves")
    rows = items("classify", 24)
    plain, lean = (model(method=method, bits=bits, dropout=True) for _ in range(2))
    train(plain, rows, tmp_path / "plain")
    train(lean, rows, tmp_path / "lean", checkpointing=True)
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
    rows = items("classify", 16)
    for bits in (32, 8):
        kept = []
        for on in (False, True):
            built = model(bits=bits, dropout=True)
            built.train()
            arrays = formats.load("classify").collate(rows, built.tokenizer)
            batch = on_device(arrays, "cpu")
            with gradient_checkpointing(built, on), Meter(built) as meter:
                computed = built("task", batch)
                kept.append(meter.live)
            del computed
        assert kept[1] < 0.25 * kept[0]
