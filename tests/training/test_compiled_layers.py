"""Layers compiled for a training: one compilation, the same training, and what happens where
compiling fails.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from transformers import XLMRobertaConfig, XLMRobertaModel

from adapters_xtl import methods
from adapters_xtl.backbones import embedded, loading, registry
from adapters_xtl.backbones.registry import NAMED
from adapters_xtl.models import dropout_masks
from adapters_xtl.models.network import Model
from adapters_xtl.models.tensors import autocast
from adapters_xtl.training import compiled_layers
from adapters_xtl.training.stages import TrainingResult
from tests.finished_runs import run_recipe
from tests.training.toys import apart, items, model, train, weights

HYPER: dict[str, Any] = {"dropout_masks": "bytes", "attention": "eager", "eval_every": 3}


@pytest.fixture(autouse=True)
def _encoder() -> None:
    embedded.prepare(lambda text: None)


def losses(log: Any) -> list[float]:
    return [entry["loss"] for entry in log if "loss" in entry]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "dtype", "dropout"), [("lora", "float32", False), ("bottleneck", "bfloat16", True)]
)
def test_one_compilation_serves_all_layers_and_lengths(
    method: str, dtype: str, dropout: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five batches of 8 items, padded or all of one length, and one of a single item. With dropout
    the masks are others, the same at each try.
    """
    rows = items("classify", 25) + items("classify", 1, 5) * 16
    usual, compiled, broken = (model(method=method, dropout=dropout) for _ in range(3))
    names, states = list(compiled.state_dict()), []
    draw, draws = dropout_masks._random_bytes, []

    def counted(count: int) -> torch.Tensor:
        draws.append(count)
        return draw(count)

    monkeypatch.setattr(dropout_masks, "_random_bytes", counted)

    def run(name: str, built: Model, **options: Any) -> TrainingResult:
        own = {"lora": "fused"} if method == "lora" else {}
        options["hyper"] = {**HYPER, **own, **options.get("hyper", {})}
        casts = tuple(methods.load(method).products(built.encoder))
        return train(built, rows, tmp_path / name, steps=6, dtype=dtype, cast_once=casts, **options)

    def score() -> dict[str, float]:
        batch = {"input_ids": torch.arange(5, 15).view(2, 5)}
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        with torch.inference_mode(), autocast("cpu", dtype):
            states.append(compiled.eval().states(batch))
        return {"score": float(len(states))}

    expected = run("usual", usual)
    by_step = len(draws) // 6
    assert len(draws) == 6 * by_step and (by_step > 0) == dropout
    draws.clear()
    lines: list[str] = []
    counters.clear()
    made = run("run", compiled, hyper={"compiled": "on"}, score=score, lines=lines)
    assert lines == ["compiling 3 layers for 6 steps"]
    # the pass that compiles has no head, which drops out twice
    masks = 7 * by_step - 2 if dropout else 0
    assert len(draws) == masks, "a mask for each dropout"
    assert (expected.compiled_layers, made.compiled_layers) == (0, 3)
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]
    assert losses(made.log) == pytest.approx(losses(expected.log), rel=0.1 if dropout else 1e-4)
    assert list(compiled.state_dict()) == names
    assert not any("forward" in vars(layer) for layer in compiled.modules())
    score()
    assert torch.equal(states[-1], states[-2]), "evaluation takes the library's own code"

    if not dropout:
        return
    scores = [1.0]

    def interrupted() -> dict[str, float]:
        if not scores:
            raise KeyboardInterrupt
        return {"score": scores.pop()}

    with pytest.raises(KeyboardInterrupt):
        run("broken", broken, hyper={"compiled": "on"}, score=interrupted)
    resumed = run("broken", broken, hyper={"compiled": "on"}, score=lambda: {"score": 2.0})
    assert losses(resumed.log) == losses(made.log)
    assert apart(weights(broken), weights(compiled)) == 0


@pytest.fixture(scope="module")
def without_dropout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone of the sizes of `tiny` that drops nothing out: compiled or not, one training."""
    embedded.prepare(lambda text: None)
    path = tmp_path_factory.mktemp("backbone")
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    torch.manual_seed(1)
    config = XLMRobertaConfig(**{**registry.TINY_CONFIG, **rates})
    XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(path)
    loading.tokenizer(NAMED["tiny"]).save_pretrained(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "layers", "extra", "request_options"),
    [
        (
            *("multi", 2, ["train.tasks=mnli,panx", "method.lora_dropout=0.0"]),
            {"method": "lora", "from_layer": 1},  # the layers below are fixed
        ),
        # of four layers: neither the first trained one nor the last, at the first token, is compiled
        ("pawsx", 2, [], {"method": "bottleneck", "on": "mnli,csqa", "compose": "fuse"}),
        ("pawsx", 2, [], {"method": "full"}),
    ],
    ids=["several tasks, fixed prefix", "fusion", "full"],
)
def test_compiled_layers_train_as_they_are(
    task: str,
    layers: int,
    extra: list[str],
    request_options: dict[str, Any],
    without_dropout: Path,
    runs: Path,
) -> None:
    short = ["train.max_steps=6", "train.eval_every=6", "train.select_examples=10"]
    short += ["train.max_examples=160", "train.dtype=float32", "train.dropout=0.0"]
    curves = []
    for choice in ("off", "on"):
        made = run_recipe(
            *(runs, task),
            set_=[*short, *extra, "train.lr=0.003", f"train.compiled={choice}"],
            set_parents=short,
            backbone=str(without_dropout),
            **request_options,
        )
        assert made["metrics"]["train"].get("compiled_layers", 0) == (layers * (choice == "on"))
        lines = (Path(made["path"]) / "train_log.jsonl").read_text().splitlines()
        curves.append(losses(map(json.loads, lines)))
    assert len(curves[0]) == 6 and curves[1] == pytest.approx(curves[0], rel=1e-4)


@pytest.mark.parametrize(("fails", "layers"), [("tracing", 0), ("third step", 0), ("never", 3)])
def test_what_fails_in_compiled_layers_changes_no_bit(
    fails: str, layers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failed step is done again in the layers as they are, from the state that it began with."""
    calls = 0

    def compile(forward: Any, **options: Any) -> Any:
        def compiled(*arguments: Any, **others: Any) -> Any:
            nonlocal calls
            calls += 1
            # three layers a pass, and the first pass is the one that compiles
            if fails == "tracing" or (fails == "third step" and calls == 3 * 3 + 2):
                torch.rand(5)
                raise RuntimeError("no compiler\nfor a reason")
            return forward(*arguments, **others)

        return compiled

    usual, other = model(dropout=True), model(dropout=True)
    rows = items("classify", 24)
    expected = train(usual, rows, tmp_path / "usual", steps=5)
    monkeypatch.setattr(torch, "compile", compile)
    lines: list[str] = []
    made = train(other, rows, tmp_path / "run", steps=5, hyper={"compiled": "on"}, lines=lines)
    told = [line for line in lines if "no compiler" in line]
    assert (
        told == []
        if fails == "never"
        else told
        == [
            "train.compiled: RuntimeError: no compiler; the training goes on without compiled layers"
        ]
    )
    assert made.compiled_layers == layers
    assert losses(made.log) == losses(expected.log) and made.steps == 5
    assert apart(weights(usual), weights(other)) == 0


def test_what_is_not_compiled_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def line(bits: int = 32, **hyper: Any) -> str:
        lines: list[str] = []
        built = model(bits=bits)
        train(
            built,
            items("classify", 8),
            tmp_path / str(len(list(tmp_path.iterdir()))),
            steps=1,
            lines=lines,
            hyper=hyper,
        )
        (only,) = lines
        return only

    assert "pays on a CPU" in line(compiled="auto")
    assert "quantised" in line(bits=8, compiled="on")
    taken = tmp_path / "taken"
    taken.mkdir(mode=0o777)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(taken))
    monkeypatch.setattr(compiled_layers.os, "getuid", lambda: 12345)
    assert "is another user's" in line(compiled="on")
