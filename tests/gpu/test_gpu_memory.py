"""On a CUDA device: the planner against the allocator, real out-of-memory errors, the table on the
CPU.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    pytest.skip(
        "no CUDA device, or not `make test-gpu`: the allocator is not tested here",
        allow_module_level=True,
    )

from transformers import XLMRobertaConfig, XLMRobertaModel

from adapters_xtl import formats, methods
from adapters_xtl.backbones import Backbone, loading, registry
from adapters_xtl.backbones.shape import shape
from adapters_xtl.formats import Item, Lengths
from adapters_xtl.memory import peak
from adapters_xtl.memory.activations import Job
from adapters_xtl.memory.peak import Way
from adapters_xtl.methods import Link
from adapters_xtl.models.heads import head_spec
from adapters_xtl.models.network import (
    EncoderSpec,
    Host,
    Model,
    StackSpec,
    build,
    cap_memory,
    on_device,
)
from adapters_xtl.runs.hyper import Hyper
from adapters_xtl.training.batches import TrainSet, loss_weights, split, weighted
from adapters_xtl.training.fit import fit as train
from adapters_xtl.training.fit import gradient_checkpointing
from adapters_xtl.training.stages import Stage, Training, TrainingResult

pytestmark = pytest.mark.gpu
SIZES = {
    "vocab_size": 30000,
    "hidden_size": 512,
    "num_attention_heads": 8,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights")
    settings = XLMRobertaConfig(**{**registry.TINY_CONFIG, **SIZES, "initializer_range": 0.02})
    XLMRobertaModel(settings, add_pooling_layer=False).save_pretrained(path)
    return path


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    gc.collect()  # a failed test's model too
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.0)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


class _Tokenizer:
    pad_token_id = 1


class _Loaded(Host):
    """Loads from a directory without a tokenizer."""

    def __init__(self, folder: Path, offload: bool = False) -> None:
        super().__init__()
        self.folder, self.offload = folder, offload

    def load(self, spec: EncoderSpec) -> Any:
        encoder = loading._read(
            self.folder, "random", spec.bits, spec.dtype, spec.device, self.offload
        )
        encoder.eval().requires_grad_(False)
        return encoder, _Tokenizer()


def made(job: Job, folder: Path, offload: bool = False) -> Model:
    head = head_spec(
        "classify", ("a", "b", "c"), SIZES["hidden_size"], job.head_dropout, Lengths(job.length, 16)
    )
    return build(
        EncoderSpec(Backbone("random", "directory", ""), job.method, job.bits, job.dtype, "cuda"),
        StackSpec([Link("child")], methods.load(job.method).defaults),
        {"task": head},
        train=True,
        seed=1,
        host=_Loaded(folder, offload),
    )


def items(count: int, length: int) -> list[Item]:
    rng = np.random.default_rng(1)
    return [
        Item(
            number,
            (rng.integers(5, 29000, length - 8 * (number == 0)).astype(np.int32),),
            gold={"label": number % 3},
        )
        for number in range(count)
    ]


CASES = [
    ("full", 32, "float32", {}),
    ("full", 32, "bfloat16", {}),
    ("full", 32, "bfloat16", {"optimizer": "adamw8bit"}),
    *(
        (method, bits, "bfloat16", {})
        for method in ("lora", "bottleneck")
        for bits in (32, 16, 8, 4)
    ),
]


@pytest.mark.parametrize(
    "way", [Way(16), Way(16, checkpointing=True), Way(4)], ids=["plain", "checkpointed", "parts"]
)
@pytest.mark.parametrize(("method", "bits", "dtype", "more"), CASES)
def test_predicted_within_a_tenth_of_the_allocator(
    method: str, bits: int, dtype: str, more: dict[str, Any], way: Way, folder: Path
) -> None:
    job = Job(
        method,
        methods.load(method).defaults,
        bits=bits,
        dtype=dtype,
        device="cuda",
        length=128,
        batch=16,
        **more,
    )
    built = made(job, folder)
    rows, form_of_task = items(16, 128), formats.load("classify")
    trainable = list(built.trainable().values())
    if job.optimizer == "adamw8bit":
        import bitsandbytes

        manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
        manager.initialize()
        for module in built.modules():
            if isinstance(module, torch.nn.Embedding):
                manager.register_module_override(module, "weight", {"optim_bits": 32})
        adam: Any = bitsandbytes.optim.AdamW(trainable, lr=1e-4, optim_bits=8)
    else:
        adam = torch.optim.AdamW(trainable, lr=1e-4, fused=True)
    built.train()
    with gradient_checkpointing(built, way.checkpointing):
        for _ in range(3):
            torch.cuda.reset_peak_memory_stats()
            parts = split(rows, way.micro_batch)
            for part, of_part in zip(parts, loss_weights(form_of_task, parts), strict=True):
                batch = on_device(form_of_task.collate(part, built.tokenizer, 8), "cuda")
                with torch.autocast("cuda", dtype=torch.bfloat16, enabled=dtype != "float32"):
                    computed = built("task", batch)
                weighted(computed["terms"], of_part).backward()
                del computed, batch
            torch.nn.utils.clip_grad_norm_(trainable, 1.0)
            adam.step()
            adam.zero_grad(set_to_none=True)
    measured = torch.cuda.max_memory_allocated()
    form = shape({**registry.TINY_CONFIG, **SIZES})
    assert peak.predict(form, job, way).peak == pytest.approx(measured, rel=0.1), f"of {measured:,}"


def fitted(
    built: Model, rows: list[Item], work: Path, said: list[str], **options: Any
) -> TrainingResult:
    hyper = Hyper(lr=1e-3, batch_size=32, max_steps=3, eval_every=3, patience=0)
    stages = [Stage("task", [TrainSet("task", rows)], lambda: {"score": 1.0})]
    training = Training(
        model=built,
        stages=stages,
        hyper=hyper,
        seed=1,
        dtype="bfloat16",
        device="cuda",
        work=work,
        notify=said.append,
    )
    return train(replace(training, **options))


def test_a_device_that_is_too_small_gets_smaller_parts(folder: Path, tmp_path: Path) -> None:
    job = Job(
        "lora", methods.load("lora").defaults, bits=16, dtype="bfloat16", device="cuda", length=256
    )
    said: list[str] = []
    whole = made(job, folder)
    expected = fitted(whole, items(96, 256), tmp_path / "whole", said)
    assert not said and expected.micro_batch == 32
    room = peak.predict(shape({**registry.TINY_CONFIG, **SIZES}), job, Way(8)).peak
    short = made(job, folder)
    del whole
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(
        1.15 * room / torch.cuda.get_device_properties(0).total_memory
    )
    found = fitted(short, items(96, 256), tmp_path / "short", said)
    assert (
        found.micro_batch <= 8
        and any("out of memory" in text for text in said)
        and found.steps == 3
    )
    losses = [
        [entry["loss"] for entry in each.log if "loss" in entry] for each in (expected, found)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.1), (
        "the same but for dropout's draws and rounding"
    )


@pytest.mark.parametrize("bits", [16, 8, 4])
def test_the_table_takes_nothing_of_the_device(bits: int, folder: Path, tmp_path: Path) -> None:
    job = Job(
        "lora", methods.load("lora").defaults, bits=bits, dtype="bfloat16", device="cuda", batch=8
    )
    table = SIZES["vocab_size"] * SIZES["hidden_size"] * 2
    taken = []
    for offload in (False, True):
        gc.collect()
        before = torch.cuda.memory_allocated()
        built = made(job, folder, offload)
        taken.append(torch.cuda.memory_allocated() - before)
        fitted(built, items(32, 128), tmp_path / str(offload), [])
        assert built.encoder.get_input_embeddings().weight.device.type == (
            "cpu" if offload else "cuda"
        )
        del built
    assert taken[0] - taken[1] == pytest.approx(table, rel=0.05)


def test_the_planner_chooses_what_then_trains(folder: Path, tmp_path: Path) -> None:
    form = shape({**registry.TINY_CONFIG, **SIZES})
    job = Job(
        "lora", methods.load("lora").defaults, bits=16, dtype="bfloat16", device="cuda", length=256
    )
    budget = int(0.5 * peak.predict(form, job, Way(32)).peak)
    fit = peak.settle(form, {"a": job}, budget, {16: "bfloat16", 8: "bfloat16"}, "--memory")["a"]
    built = made(replace(job, bits=fit.job.bits), folder, fit.way.offload)
    torch.cuda.empty_cache()
    cap_memory("cuda", budget / 2**30)
    said: list[str] = []
    found = fitted(
        built,
        items(96, 256),
        tmp_path,
        said,
        micro_batch=fit.way.micro_batch,
        checkpointing=fit.way.checkpointing,
    )
    assert not said and found.measured_peak_bytes <= budget
