"""On a CUDA device: batches that are made ahead are pinned and copied while a step computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    pytest.skip("no CUDA device, or not `make test-gpu`", allow_module_level=True)

from adapters_xtl import formats
from adapters_xtl.backbones import embedded
from adapters_xtl.training.batches import Batch
from adapters_xtl.training.micro_batches import MicroBatches
from adapters_xtl.training.prepared import PreparedBatches
from tests.training.toys import items, model, train

pytestmark = pytest.mark.gpu


def test_batches_made_ahead_are_pinned_and_learn_the_same(tmp_path: Path) -> None:
    embedded.prepare(lambda text: None)
    losses = []
    for ahead in (False, True):
        built = model("tag").to("cuda")
        hyper = {"token_budget": 200}
        work = tmp_path / str(ahead)
        result = train(
            built, items("tag", 80), work, steps=8, hyper=hyper, device="cuda", prepare_ahead=ahead
        )
        losses.append([entry["loss"] for entry in result.log if "loss" in entry])
        assert result.tokens < result.padded_tokens
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    parts = MicroBatches(tmp_path / "none", 8, 8, print, budget=200, multiple=8)
    batch = Batch("task", items("tag", 8))
    with PreparedBatches(
        parts, lambda task: formats.load("tag"), built.tokenizer, pinned=True, ahead=True
    ) as batches:
        made = [batches.parts(step, batch, batch) for step in (1, 2)]
    tensors = [tensor for each in made for part in each for tensor in part.tensors.values()]
    assert tensors and all(tensor.is_pinned() for tensor in tensors)
