"""The optimizer: which rate at which step, what decays, 8 bits."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import XLMRobertaConfig, XLMRobertaModel, get_linear_schedule_with_warmup

from adapters_xtl.backbones import Backbone, embedded, registry
from adapters_xtl.base.errors import RequestError
from adapters_xtl.runs.hyper import Hyper
from adapters_xtl.training.optimizer import learning_rate, make_optimizer
from tests.training.toys import apart, items, model, train, weights


@pytest.fixture(scope="module", autouse=True)
def _tokenizer() -> None:
    embedded.prepare(lambda text: None)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.06), (8, 0.3), (10, 0), (50, 1)])
def test_the_schedule_is_transformers_linear_one(steps: int, warmup: float) -> None:
    hyper = Hyper(lr=0.5, warmup=warmup)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=hyper.lr)
    theirs = get_linear_schedule_with_warmup(optimizer, math.ceil(steps * warmup), steps)
    for step in range(steps):
        assert learning_rate(step, steps, hyper) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    assert learning_rate(steps, steps, hyper) == 0


def test_biases_and_norms_do_not_decay() -> None:
    built = model(method="full")
    with make_optimizer(built, Hyper(weight_decay=0.1), "cpu") as optimizer:
        decayed, plain = optimizer.param_groups
        assert decayed["weight_decay"] == 0.1 and plain["weight_decay"] == 0
        names = {id(value): name for name, value in built.trainable().items()}
        kept = {names[id(value)] for value in plain["params"]}
        assert kept == {name for name in names.values() if "bias" in name or "LayerNorm" in name}
        assert len(decayed["params"]) + len(kept) == len(names)


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
    train(whole, rows, tmp_path / "whole", hyper=hyper)
    assert apart(weights(whole), weights(model(method="full", backbone=wide))) > 1e-3
    calls = iter([False, True])

    def score() -> dict[str, float]:
        if next(calls):
            raise KeyboardInterrupt
        return {"score": 1.0}

    with pytest.raises(KeyboardInterrupt):
        train(broken, rows, tmp_path / "run", hyper=hyper, score=score)
    counts = iter(range(2, 10))
    train(
        resumed, rows, tmp_path / "run", hyper=hyper, score=lambda: {"score": float(next(counts))}
    )
    assert apart(weights(whole), weights(resumed)) == 0
    saved = torch.load(tmp_path / "run" / "checkpoint-6" / "optimizer.pt", weights_only=True)
    state = saved["optimizer"]["state"]
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

    train(
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
    with pytest.raises(RequestError, match=r"bitsandbytes.*cpu"):
        train(
            model(method="full"), items("classify", 16), tmp_path, hyper={"optimizer": "adamw8bit"}
        )
