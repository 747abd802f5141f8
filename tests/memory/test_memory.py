"""The memory planner: its bytes against what autograd keeps and what a step takes, and the plans it
makes of them.
"""

from __future__ import annotations

import contextlib
import gc
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bitsandbytes
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

from adapters_xtl import methods
from adapters_xtl.backbones import Backbone, embedded, loading, registry
from adapters_xtl.backbones.registry import NAMED
from adapters_xtl.backbones.shape import shape
from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.machine import native_dtype
from adapters_xtl.cli.commands import hub as hub_command
from adapters_xtl.cli.commands import plan as memory_command
from adapters_xtl.cli.commands import recipe as commands
from adapters_xtl.formats import Item, Lengths
from adapters_xtl.memory import activations, peak
from adapters_xtl.memory.activations import Job
from adapters_xtl.memory.peak import GIB, KERNELS, Way, predict, settle
from adapters_xtl.methods import Link
from adapters_xtl.models.heads import head_spec
from adapters_xtl.models.network import EncoderSpec, Model, StackSpec, build
from adapters_xtl.planning import memory_jobs
from adapters_xtl.runs.hyper import ON_A_CPU
from adapters_xtl.training.batches import split_by_tokens
from adapters_xtl.training.fit import gradient_checkpointing
from tests.command_line import complaints, xtl, xtl_json
from tests.memory_meter import Meter, like_cuda

LARGE = shape(memory_jobs.FACTS["FacebookAI/xlm-roberta-large"])


@pytest.fixture(scope="module", autouse=True)
def _tokenizer() -> None:
    embedded.prepare(lambda text: None)


def small_tokenizer() -> PreTrainedTokenizerFast:
    """XLM-R's special tokens, with their ids, and a few words: fewer ids than any checkpoint here."""
    special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    words = {word: number for number, word in enumerate((*special, "one", "two", "three"))}
    inner = Tokenizer(WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    begin, pad, end, unknown, mask = special
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token=begin,
        cls_token=begin,
        pad_token=pad,
        eos_token=end,
        sep_token=end,
        unk_token=unknown,
        mask_token=mask,
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Backbone]:
    """Random XLM-Rs of other sizes than `tiny`, as checkpoint directories."""
    made: dict[tuple[tuple[str, int], ...], Backbone] = {}

    def make(**sizes: int) -> Backbone:
        key = tuple(sorted(sizes.items()))
        if key not in made:
            path = tmp_path_factory.mktemp("backbone")
            settings = XLMRobertaConfig(**{**registry.TINY_CONFIG, "vocab_size": 3000, **sizes})
            XLMRobertaModel(settings, add_pooling_layer=False).save_pretrained(path)
            small_tokenizer().save_pretrained(path)
            made[key] = registry.resolve(str(path))
        return made[key]

    return make


WIDE = {
    "hidden_size": 256,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
}
DEEP = {
    "hidden_size": 192,
    "num_attention_heads": 3,
    "intermediate_size": 768,
    "num_hidden_layers": 8,
}


def model(backbone: Backbone, job: Job, tmp_path: Path) -> Model:
    """As a recipe builds it: parents saved and loaded, then the module that trains, and its head."""
    how, options = methods.load(job.method), {**methods.load(job.method).defaults, **job.options}
    chain: list[Link] = []
    for number in range(job.parents):
        encoder, _ = loading.load(backbone)
        attached = how.attach(
            encoder, [Link(f"parent{number}")], options, from_layer=job.from_layer
        )
        how.save(attached, f"parent{number}", tmp_path / f"parent{number}")
        chain.append(Link(f"parent{number}", tmp_path / f"parent{number}"))
    hidden = int(registry.config(backbone)["hidden_size"])
    head = head_spec(
        job.format,
        tuple("abcdefghijkl"[: job.labels]),
        hidden,
        job.head_dropout,
        Lengths(job.length, 16),
    )
    return build(
        EncoderSpec(backbone, job.method, job.bits, job.dtype),
        StackSpec(
            [*chain, Link("child")], options, job.from_layer, "fuse" if job.fuse else "stack"
        ),
        {"task": head},
        train=True,
        seed=1,
    )


def batch(job: Job, count: int) -> dict[str, torch.Tensor]:
    """`count` examples of exactly the planned length, one of them with some padding."""
    rows, length = count * job.sequences, job.length
    ids = torch.randint(3, 2999, (rows, length))
    mask = torch.ones_like(ids)
    ids[0, -2:], mask[0, -2:] = 1, 0
    found = {"input_ids": ids, "attention_mask": mask}
    if job.format == "tag":
        return {
            **found,
            "first": mask.bool(),
            "labels": torch.randint(0, job.labels, (rows, length)),
        }
    if job.format == "span":
        return {
            **found,
            "spans": torch.randint(1, length - 3, (rows, 2)),
            "trims": torch.zeros(rows, 2, dtype=torch.long),
        }
    if job.format == "choice":
        return {
            **found,
            "grid": torch.arange(rows).view(count, -1),
            "labels": torch.zeros(count, dtype=torch.long),
        }
    return {**found, "labels": torch.randint(0, job.labels, (rows,))}


@contextlib.contextmanager
def emulated(job: Job) -> Iterator[None]:
    with like_cuda() if job.device == "cuda" else contextlib.nullcontext():
        yield


def autocast(job: Job) -> Any:
    return (
        torch.autocast("cpu", dtype=getattr(torch, job.dtype))
        if job.dtype != "float32"
        else contextlib.nullcontext()
    )


def saved(built: Model, job: Job, way: Way) -> int:
    """Bytes of the tensors that autograd saves in one forward pass, each storage once, parameters
    left out.
    """
    known = {
        tensor.untyped_storage().data_ptr() for tensor in (*built.parameters(), *built.buffers())
    }
    found: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in known:
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    built.train()
    with (
        emulated(job),
        autocast(job),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        kept = built(
            "task", batch(job, way.micro_batch)
        )  # alive, so that no storage is counted twice
    total = sum(storage.nbytes() for storage in found.values())
    del kept
    return total


def passes(job: Job, way: Way) -> list[int]:
    """Examples of each pass of a step, as a training cuts it: all have the longest length."""
    if not job.token_budget:
        return [way.micro_batch] * (job.batch // way.micro_batch)
    ids = np.zeros(job.length, dtype=np.int32)
    items = [Item(number, (ids,) * job.sequences) for number in range(job.batch)]
    return [len(part) for part in split_by_tokens(items, job.token_budget, way.micro_batch)]


def taken(built: Model, job: Job, way: Way) -> int:
    """Peak bytes of one optimizer step after the first: weights, optimizer state, and all that
    lives for a while.
    """
    built.train()
    trainable = list(built.trainable().values())
    manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
    if job.optimizer == "adamw8bit":
        for module in built.modules():
            if isinstance(module, torch.nn.Embedding):
                manager.register_module_override(module, "weight", {"optim_bits": 32})
        optimizer: Any = bitsandbytes.optim.AdamW(trainable, lr=1e-4, optim_bits=8)
    else:
        optimizer = torch.optim.AdamW(trainable, lr=1e-4, fused=True)

    def step() -> None:
        for examples in passes(job, way):
            rows = batch(job, examples)
            with autocast(job):
                loss = built("task", rows)["loss"]
            loss.backward()
            del loss, rows
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    try:
        with emulated(job), gradient_checkpointing(built, way.checkpointing):
            step()
            gc.collect()
            state = [
                value
                for entry in optimizer.state.values()
                for value in entry.values()
                if isinstance(value, torch.Tensor)
            ]
            fixed = {each._cdata: each.nbytes() for each in Meter(built, state)._kept}
            with Meter(built, state) as meter:
                step()
    finally:
        manager.initialize()
    return meter.peak + sum(fixed.values())


def planned(backbone: Backbone, job: Job, way: Way) -> int:
    found = predict(shape(registry.config(backbone)), job, way).peak
    return found - (
        KERNELS if job.device == "cuda" else 0
    )  # nothing on the CPU takes cuBLAS' workspaces


KINDS = [(32, "float32"), (32, "bfloat16"), (16, "bfloat16"), (8, "bfloat16"), (4, "bfloat16")]
CASES = [
    (method, bits, dtype)
    for method in ("full", "bottleneck", "lora")
    for bits, dtype in KINDS
    if method != "full" or bits == 32
]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(("method", "bits", "dtype"), CASES)
def test_what_autograd_keeps_is_counted(
    method: str,
    bits: int,
    dtype: str,
    device: str,
    checkpoint: Callable[..., Backbone],
    tmp_path: Path,
) -> None:
    """On `tiny` and on a wider model: each saved tensor is in the plan, within a tenth; "cuda" as
    far as a CPU can be it.
    """
    for backbone, size in ((NAMED["tiny"], 8), (checkpoint(**WIDE), 8)):
        if bits == 4 and backbone.name == "tiny":
            continue  # no layer of `tiny` but one is a multiple of 64 wide
        job = Job(
            method,
            methods.load(method).defaults,
            bits=bits,
            dtype=dtype,
            device=device,
            length=64,
            batch=size,
        )
        form = shape(registry.config(backbone))
        tokens = size * job.length
        per_token, copies = activations.head(form, job)
        expected = sum(token * tokens + fixed for token, fixed in activations.layers(form, job))
        expected += per_token * tokens + copies
        if method == "full":
            expected += (
                tokens * form.hidden * (5 if device == "cuda" else 8)
            )  # the embeddings' sum and their dropout
        measured = saved(model(backbone, job, tmp_path), job, Way(size))
        assert expected == pytest.approx(measured, rel=0.1), (
            f"{backbone.name}: {expected / measured:.3f} of {measured:,}"
        )


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointed"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(("method", "bits", "dtype"), CASES)
def test_the_peak_of_a_step(
    method: str,
    bits: int,
    dtype: str,
    device: str,
    checkpointing: bool,
    checkpoint: Callable[..., Backbone],
    tmp_path: Path,
) -> None:
    backbone = checkpoint(**(DEEP if checkpointing else WIDE))
    job = Job(
        method,
        methods.load(method).defaults,
        bits=bits,
        dtype=dtype,
        device=device,
        length=64,
        batch=16,
    )
    way = Way(16, checkpointing)
    measured = taken(model(backbone, job, tmp_path), job, way)
    assert planned(backbone, job, way) == pytest.approx(measured, rel=0.1), f"of {measured:,}"


OTHERS: dict[str, tuple[Job, int]] = {
    "two parents, LoRA": (
        Job("lora", {"r": 32, "lora_dropout": 0.1}, parents=2, bits=16, dtype="bfloat16"),
        16,
    ),
    "two parents, bottleneck": (
        Job("bottleneck", {"reduction_factor": 4}, parents=2, bits=8, dtype="bfloat16"),
        16,
    ),
    "fused parents": (Job("bottleneck", {}, parents=2, fuse=True, bits=32), 16),
    "bottlenecks after attention too": (
        Job("bottleneck", {"mh_adapter": True, "non_linearity": "gelu"}, bits=16, dtype="bfloat16"),
        16,
    ),
    "LoRA on query and value": (Job("lora", {"target_modules": ["query", "value"]}, bits=32), 16),
    "upper layers": (Job("lora", {}, from_layer=5, bits=16, dtype="bfloat16"), 16),
    "upper layers, bottleneck": (Job("bottleneck", {}, from_layer=4, bits=32), 16),
    "tagging in parts": (Job("lora", {}, format="tag", labels=12, bits=32), 4),
    "questions in parts, checkpointed": (
        Job("bottleneck", {}, format="span", bits=16, dtype="bfloat16"),
        -4,
    ),
    "choices": (
        Job("lora", {}, format="choice", sequences=4, bits=16, dtype="bfloat16", batch=4),
        4,
    ),
    "all weights in parts": (Job("full", {}, bits=32, dtype="bfloat16"), 4),
    "all weights in parts, checkpointed": (Job("full", {}, bits=32), -4),
    "8-bit optimizer": (Job("full", {}, bits=32, dtype="bfloat16", optimizer="adamw8bit"), 16),
    "a budget of tokens": (Job("lora", {}, bits=16, dtype="bfloat16", token_budget=4 * 64), 16),
    "a budget of tokens for choices": (
        Job("bottleneck", {}, format="choice", sequences=4, batch=4, bits=32, token_budget=8 * 64),
        4,
    ),
    "a budget of less than an example": (Job("full", {}, bits=32, token_budget=20), 16),
}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", OTHERS)
def test_the_peak_of_other_jobs(
    name: str, device: str, checkpoint: Callable[..., Backbone], tmp_path: Path
) -> None:
    asked, micro = OTHERS[name]
    backbone = checkpoint(**DEEP)
    defaults = {} if asked.fuse else methods.load(asked.method).defaults
    batch = asked.batch if asked.sequences > 1 else 16
    job = replace(
        asked, options={**defaults, **asked.options}, device=device, length=64, batch=batch
    )
    way = Way(abs(micro), micro < 0)
    measured = taken(model(backbone, job, tmp_path), job, way)
    assert planned(backbone, job, way) == pytest.approx(measured, rel=0.1), f"of {measured:,}"


@pytest.mark.parametrize(
    ("method", "options", "from_layer"),
    [
        ("lora", {}, 0),
        ("lora", {"r": 3, "target_modules": ["dense"]}, 2),
        ("lora", {"target_modules": ["query"]}, 0),
        ("bottleneck", {}, 0),
        ("bottleneck", {"mh_adapter": True, "reduction_factor": 5}, 1),
        ("full", {}, 0),
    ],
)
def test_the_planner_counts_parameters_as_the_methods_do(
    method: str, options: dict[str, Any], from_layer: int
) -> None:
    encoder, _ = loading.load(NAMED["tiny"])
    chosen = {**methods.load(method).defaults, **options}
    job = Job(method, chosen, from_layer=from_layer)
    planned_count = activations.module_parameters(shape(registry.TINY_CONFIG), job)
    attached = methods.load(method).attach(encoder, [Link("alpha")], chosen, from_layer=from_layer)
    trained = [each.numel() for each in attached.parameters() if each.requires_grad]
    assert planned_count == sum(trained)


def test_a_budget_of_tokens_bounds_the_plan() -> None:
    """Between that of one example and that of the whole batch, whatever the micro-batch."""
    whole, cut = large(), large(token_budget=1000)
    tokens = {
        size: (peak.predict(LARGE, whole, Way(size)).peak, peak.predict(LARGE, cut, Way(size)).peak)
        for size in (32, 8, 4)
    }
    assert tokens[8][0] > tokens[32][1] == tokens[8][1] > tokens[4][0] == tokens[4][1]
    fit = settle(LARGE, {"a": cut}, None, BITS)["a"]
    assert fit.accumulation == 5 and fit.cost == 1
    assert "at most 1,000 tokens and 32 examples at once" in str(fit)


def test_sizes_of_the_backbones_that_need_no_network() -> None:
    base = shape(memory_jobs.FACTS["FacebookAI/xlm-roberta-base"])
    assert (round(LARGE.parameters / 1e6), round(base.parameters / 1e6)) == (
        559,
        277,
    ), "without pooler and LM head"
    assert (LARGE.layers, LARGE.hidden, LARGE.heads, LARGE.inner) == (24, 1024, 16, 4096)
    named = ("facebook/xlm-roberta-xl", "bert-base-multilingual-cased")
    large, multilingual = (shape(memory_jobs.config(name)) for name in named)
    assert (round(large.parameters / 1e9, 1), round(multilingual.parameters / 1e6)) == (3.5, 177)
    assert (large.longest, multilingual.longest) == (512, 512)


def large(method: str = "lora", **options: Any) -> Job:
    return Job(
        method,
        methods.load(method).defaults,
        **{"bits": 16, "dtype": "bfloat16", "device": "cuda", **options},
    )


BITS = {16: "bfloat16", 8: "bfloat16", 4: "bfloat16"}


def test_the_goals_for_one_module_at_length_128() -> None:
    """LoRA r=16 on all linear layers, effective batch 32: 1.5 GiB at 16 bits, 1 GiB at int8 with
    the table on the CPU.
    """
    fit = settle(LARGE, {"a": large()}, int(1.5 * GIB), {16: "bfloat16"})["a"]
    assert (
        fit.job.bits == 16
        and fit.needs <= 1.5 * GIB
        and fit.way.micro_batch * fit.accumulation == 32
    )
    lean = settle(LARGE, {"a": large()}, GIB, {8: "bfloat16"})["a"]
    assert lean.job.bits == 8 and lean.way.offload and lean.needs <= GIB


@pytest.mark.parametrize("method", ["lora", "bottleneck", "full"])
def test_a_smaller_budget_takes_what_costs_more(method: str) -> None:
    bits = {32: "bfloat16"} if method == "full" else BITS
    job = large(method, bits=32 if method == "full" else 16)
    costs, changes = [], []
    for budget in (
        (40, 20, 12, 10, 9.5, 8, 7.5, 7.2)
        if method == "full"
        else (20, 6, 4, 3, 2, 1.5, 1.2, 1.0, 0.85)
    ):
        fit = settle(LARGE, {"a": job}, int(budget * GIB), bits, "--memory")["a"]
        assert fit.needs <= budget * GIB
        assert (
            fit.way.micro_batch * fit.accumulation
            >= 32
            > fit.way.micro_batch * (fit.accumulation - 1)
        )
        costs.append(fit.cost)
        changes.append(list(bits).index(fit.job.bits) + (fit.job.optimizer == "adamw8bit"))
    assert changes == sorted(changes), "numbers are left alone as long as can be"
    by_change = [
        [cost for cost, each in zip(costs, changes, strict=True) if each == change]
        for change in set(changes)
    ]
    assert all(group == sorted(group) for group in by_change), "and then the fastest that fits"
    assert costs[0] == 1 and settle(LARGE, {"a": job}, None, bits)["a"].cost == 1
    least = peak.least(LARGE, job, bits)
    with pytest.raises(RequestError, match=rf"{peak.gib(least.needs)} GiB"):
        settle(LARGE, {"a": job}, least.needs - 1, bits, "--memory 1")
    assert settle(LARGE, {"a": job}, int(float(peak.gib(least.needs)) * GIB), bits, "--memory")
    assert settle(LARGE, {"a": job}, 1, bits)["a"] == least, (
        "a budget that nobody asked for refuses nothing"
    )


def test_what_was_asked_for_is_not_exchanged() -> None:
    tight = int(8 * GIB)
    full = large("full", bits=32)
    assert settle(LARGE, {"a": full}, tight, {32: "bfloat16"})["a"].job.optimizer == "adamw8bit"
    with pytest.raises(RequestError, match=r"needs 8\.\d\d GiB at least"):
        settle(
            LARGE, {"a": replace(full, keep=("optimizer",))}, tight, {32: "bfloat16"}, "--memory 8"
        )
    on_cpu = peak.least(LARGE, replace(large(), device="cpu"), BITS)
    assert not on_cpu.way.offload, "on the CPU the table is where it would be put"


def test_a_chain_shares_its_bits() -> None:
    long = large(length=512, format="span", batch=1)
    fits = settle(LARGE, {"long": long, "short": large()}, int(0.95 * GIB), BITS, "--memory 0.95")
    assert len({fit.job.bits for fit in fits.values()}) == 1


def config_of(**keys: Any) -> dict[str, Any]:
    return {
        "num_hidden_layers": 36,
        "hidden_size": 2560,
        "num_attention_heads": 32,
        "intermediate_size": 10240,
        "vocab_size": 250880,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        **keys,
    }


def test_plans_for_a_config_alone(tmp_path: Path) -> None:
    """A directory with nothing but a config.json: XLM-R XL's sizes, a BERT's, one that says too
    little.
    """
    (tmp_path / "xl").mkdir()
    (tmp_path / "xl" / "config.json").write_text(json.dumps(config_of(model_type="xlm-roberta-xl")))
    common = ("--device", "cuda", "--memory")
    plan = xtl_json(
        "plan", "mnli", "--backbone", tmp_path / "xl", *common, "24", "--method", "lora"
    )
    assert plan["fits"] and plan["needs_bytes"] <= 24 * GIB
    assert any("cannot be trained here" in note for note in plan["notes"])
    assert plan["lines"]["layers"] == pytest.approx(36 * 12 * 2560**2 * 2, rel=0.01), (
        "2.8 G weights at 16 bits"
    )
    (tmp_path / "bert").mkdir()
    bert = {
        **config_of(),
        "model_type": "bert",
        "num_hidden_layers": 12,
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "vocab_size": 119547,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    }
    (tmp_path / "bert" / "config.json").write_text(json.dumps(bert))
    plan = xtl_json(
        "plan", "panx", "--backbone", tmp_path / "bert", *common, "6", "--method", "full"
    )
    assert plan["lines"]["embeddings"] == (119547 + 512 + 2 + 2) * 768 * 4 and plan["bits"] == 32
    del bert["hidden_size"]
    (tmp_path / "bert" / "config.json").write_text(json.dumps(bert))
    done = xtl("plan", "panx", "--backbone", tmp_path / "bert", code=2)
    assert "hidden_size is missing" in complaints(done)[0]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"hidden_size": "768"}, "hidden_size"),
        ({"num_hidden_layers": True}, "num_hidden_layers"),
        ({"hidden_size": 10**12}, "hidden_size"),
        ({"type_vocab_size": None}, "type_vocab_size"),
        ({"hidden_dropout_prob": "x"}, "hidden_dropout_prob"),
        ({"num_attention_heads": 7}, "is no multiple of its"),
        ({"attention_probs_dropout_prob": None}, "attention_probs_dropout_prob"),
        ({"pad_token_id": 600}, "leave no position"),
    ],
    ids=str,
)
def test_a_config_with_odd_numbers(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        shape(config_of(model_type="xlm-roberta", **keys))


def test_positions_are_counted_as_the_models_count_them() -> None:
    assert [
        shape(config_of(model_type=kind)).longest for kind in ("xlm-roberta", "roberta", "bert")
    ] == [512, 512, 514]
    assert shape(config_of(model_type="xlm-roberta", pad_token_id=None)).longest == 512


def plan(task: str, **options: Any) -> dict[str, Any]:
    budget = options.pop("memory", 8.0)
    given = {
        "on": "",
        "set_": [],
        "set_parents": [],
        "backbone": "xlmr-large",
        "device": "cuda",
        **options,
    }
    payload, _ = memory_command.plan(commands.request(task=task, **given), budget)
    return payload


@pytest.mark.parametrize(
    ("method", "text", "said"),
    [
        ("lora", "method.r=abc", "method.r='abc': takes a whole number from 1"),
        ("lora", "method.r=0", "method.r=0"),
        ("lora", "method.lora_dropout=1", "method.lora_dropout=1"),
        ("lora", "method.target_modules=3", "target_modules=3"),
        (
            "lora",
            'method.target_modules=["quary"]',
            "'quary' matches none of the linear layers; did you mean 'query'",
        ),
        ("lora", "method.nonsense=1", "LoraConfig of `peft` has no such option"),
        ("bottleneck", "method.reduction_factor=0", "reduction_factor=0: "),
        ("bottleneck", "method.reduction_factor={1='x'}", "reduction_factor="),
        ("bottleneck", "method.mh_adapter=yes", "method.mh_adapter='yes'"),
        (
            "lora",
            "train.tasks=mnli,qqp",
            "--set: train.tasks is for the task 'multi', not for 'mnli'",
        ),
        (
            "bottleneck",
            "train.max_length=513",
            "train.max_length=513 for 'mnli': xlmr-large reads at most 512 tokens",
        ),
    ],
)
def test_odd_settings_are_refused_and_no_traceback(
    method: str, text: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=re.escape(said)):
        plan("mnli", method=method, set_=[text])
    if (
        "method." in text and "nonsense" not in text
    ):  # a budget brings the planner into every other command
        with pytest.raises(RequestError, match=re.escape(said)):
            recipe(tmp_path, text, memory=4.0, method=method)


def test_a_plan_names_what_it_cannot_train() -> None:
    with pytest.raises(RequestError, match=r"train.tasks.*'mnlx'.*'mnli'"):
        plan("multi", set_=["train.tasks=mnlx,qqp"])
    with pytest.raises(RequestError, match=r"--data embeded.*'embedded'"):
        plan("mnli", data="embeded")


def test_choices_are_those_of_the_rows() -> None:
    """As the sample rows have them: SIQA's three are more than COPA's two."""
    for task, choices in {"csqa": 5, "cosmosqa": 4, "hellaswag": 4, "xcopa": 3}.items():
        assert f"{choices} sequences an example" in plan(task)["notes"]


def test_reduction_factors_by_layer_are_counted(tmp_path: Path) -> None:
    factors = "method.reduction_factor={1=4, default=16}"
    plain, by_layer = plan("mnli"), plan("mnli", set_=[factors])
    assert by_layer["lines"]["module"] - plain["lines"]["module"] == (2 * 1024 + 1) * (256 - 64) * 4
    encoder, _ = loading.load(NAMED["tiny"])
    options = {**methods.load("bottleneck").defaults, "reduction_factor": {"1": 4, "default": 16}}
    methods.load("bottleneck").attach(encoder, [Link("alpha")], options)
    trains = sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad)
    assert (
        activations.module_parameters(shape(registry.TINY_CONFIG), Job("bottleneck", options))
        == trains
    )
    assert recipe(tmp_path, factors, memory=4.0)[0]["dry_run"]


def test_what_is_not_counted_is_said() -> None:
    assert any(
        "not counted: what method.use_dora may add" in note
        for note in plan("mnli", method="lora", set_=["method.use_dora=true"])["notes"]
    )
    full = plan(
        "mnli",
        method="lora",
        set_=['method.target_modules=["encoder.layer.0.attention.self.query"]'],
    )
    assert full["lines"]["module"] > 0, "a full name counts as its like in every layer"


@pytest.mark.parametrize("budget", [1e30, 1e300, 1.7e308])
def test_no_budget_is_too_large(budget: float) -> None:
    assert plan("mnli", memory=budget)["fits"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"on": "mnli", "compose": "fuse"}, "--compose fuse joins two or more different parents"),
        ({"on": "mnli,random", "compose": "init"}, "'random' comes first"),
        (
            {"on": "mnli,qqp", "compose": "fuse", "method": "lora"},
            "--compose fuse: not possible for method lora",
        ),
        (
            {"on": "mnli", "compose": "stack", "method": "full"},
            "--compose stack: not possible for method full",
        ),
        ({"on": "tatoeba"}, "so nothing can stand on it"),
        ({"on": "/nowhere/x"}, "no task, no run or bundle directory"),
        ({"on": "~nobody-here/x"}, "no path"),
        ({"backbone": "~nobody-here/x"}, "no path"),
    ],
    ids=str,
)
def test_a_plan_refuses_what_a_recipe_refuses(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        plan("xnli", **options)


def test_parents_that_exist_are_counted(tmp_path: Path) -> None:
    """A run by its directory or id, a bundle: each with what it stands on."""
    settings = ["train.max_steps=1", "train.eval_every=1", "train.select_examples=8"]
    asked = commands.request(
        task="pawsx",
        on="qqp",
        set_=settings,
        set_parents=settings,
        backbone="tiny",
        data="embedded",
        device="cpu",
        runs=str(tmp_path / "runs"),
        languages="en",
    )
    payload, _ = commands.recipe(asked, baseline=False, force=False, dry_run=False, notify=print)
    run, common = (
        Path(payload["path"]),
        {"backbone": "tiny", "device": "cpu", "runs": str(tmp_path / "runs")},
    )
    hub_command.push(
        str(run),
        f"file:{tmp_path}/drive/two",
        runs="",
        with_parents=True,
        private=False,
        licence="",
        rows="",
        notify=print,
    )
    for name in (str(run), run.name, f"file:{tmp_path}/drive/two"):
        assert plan("xnli", on=name, **common)["parents"] == 2
    for borrows in ("squad1", "mlqa"):
        assert plan("xquad", on=borrows, **common)["parents"] == 0, (
            "then that module is what is evaluated"
        )
    with pytest.raises(RequestError, match=r"bottleneck.*lora"):
        plan("xnli", on=run.name, method="lora", **common)


def test_a_plan_for_large_takes_no_network_and_no_torch() -> None:
    started = time.monotonic()
    plan = xtl_json(
        "plan",
        "mnli",
        "--backbone",
        "xlmr-large",
        "--memory",
        "4",
        "--device",
        "cuda",
        "--method",
        "lora",
        HF_HUB_OFFLINE="1",
        HF_HOME="/nonexistent",
        cold=True,
    )
    seconds = time.monotonic() - started
    assert plan["micro_batch"] * plan["accumulation"] == plan["batch"] == 32 and plan["bits"] == 16
    assert (
        sum(plan["lines"].values()) == plan["planned_peak_bytes"] <= plan["needs_bytes"] <= 4 * GIB
    )
    assert len(plan["activation_bytes_by_layer"]) == 24
    assert seconds < 6, "under two seconds on a machine that does nothing else"
    code = (
        "import sys; from adapters_xtl.cli.commands import plan, recipe;"
        " plan.plan(recipe.request(task='mnli', on='', set_=[], set_parents=[],"
        " backbone='xlmr-large', device='cuda'), 8.0); print(sorted(set(sys.modules) & {'torch',"
        " 'transformers', 'adapters', 'peft'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_table_adds_up_and_says_what_is_assumed() -> None:
    done = xtl(
        "plan",
        "hellaswag",
        "--backbone",
        "xlmr-large",
        "--on",
        "mnli",
        "--memory",
        "2",
        "--device",
        "cuda",
    )
    rows = [line.split("│")[1:-1] for line in done.stdout.splitlines() if line.startswith("│")]
    sizes = {name.strip(): int(size.replace(",", "")) for name, _, size in rows}
    peak = next(size for name, size in sizes.items() if name.startswith("peak"))
    assert sum(list(sizes.values())[: list(sizes.values()).index(peak)]) == peak
    assert sizes["needed"] <= sizes["budget"] == 2 * GIB and sizes["parents' modules"] > 0
    assert "mnli, trained before it" in done.stdout and "4 sequences an example" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["mnli", "--memory", "0.1"],
            r"--memory 0.1: mnli \(bottleneck, up to 128 tokens\) needs 0\.\d\d GiB at least",
        ),
        (["mnli", "--memory", "-1"], "--memory -1: takes a number of GiB above 0"),
        (["mnli", "--memory", "1", "--bits", "7"], "--bits 7"),
        (["tatoeba", "--memory", "1"], "trains nothing"),
        (["mnil", "--memory", "1"], "did you mean 'mnli'"),
        (["mnli", "--on", "sqad1"], "did you mean 'squad1'"),
        (["mnli", "--set", "train.batch=3"], "unknown key 'train.batch'"),
        (["mnli", "--backbone", "xlmr-lage"], "did you mean 'xlmr-large'"),
        (["mnli", "--from-layer", "24"], "layers 0 to 23"),
        (["mnli", "--method", "full", "--bits", "8"], "32 bits"),
    ],
)
def test_a_wrong_plan_is_refused(arguments: list[str], message: str) -> None:
    given = arguments if "--backbone" in arguments else [*arguments, "--backbone", "xlmr-large"]
    said = complaints(xtl("plan", *given, "--device", "cuda", code=2))
    assert any(re.search(message, line) for line in said), said


def recipe(
    runs: Path, *settings: str, memory: float | None, dry_run: bool = True, **options: Any
) -> tuple[Any, list[str]]:
    said: list[str] = []
    set_ = ["train.max_steps=2", "train.eval_every=2", "train.select_examples=8", *settings]
    asked = commands.request(
        **{
            "task": "mnli",
            "on": "",
            "backbone": "tiny",
            "data": "embedded",
            "device": "cpu",
            **options,
        },
        set_=set_,
        set_parents=["train.max_steps=2", "train.eval_every=2", "train.select_examples=8"],
        runs=str(runs),
        memory=memory,
    )
    payload, _ = commands.recipe(
        asked, baseline=False, force=False, dry_run=dry_run, notify=said.append
    )
    return payload, said


def test_a_budget_does_not_change_what_a_run_is(tmp_path: Path) -> None:
    """Micro-batches and checkpointing leave the id alone; a run made with them answers for one
    without, and says how.
    """
    plain, _ = recipe(tmp_path, memory=None, bits="32")
    tight, said = recipe(tmp_path, memory=0.04, bits="32")
    assert tight["id"] == plain["id"]
    assert any(text.startswith("memory for mnli") and "examples at once" in text for text in said)
    done, _ = recipe(tmp_path, memory=0.04, bits="32", dry_run=False)
    assert done["id"] == plain["id"]
    trained = done["metrics"]["train"]
    made = json.loads((Path(done["path"]) / "provenance.json").read_text())["memory_plan"]
    assert (
        trained["micro_batch"] == made["micro_batch"] < made["batch"] == 32
        and trained["examples"] == 64
    )
    assert (
        made["needs_bytes"] <= 0.04 * GIB
        and sum(made["lines"].values()) == made["planned_peak_bytes"]
    )
    again, _ = recipe(tmp_path, memory=None, bits="32", dry_run=False)
    assert again["reused"] and again["metrics"] == done["metrics"]


def test_auto_bits_ask_the_planner(tmp_path: Path) -> None:
    """8 bits where memory requires it, for parents too; ids say so. Full fine-tuning takes the
    8-bit optimizer last.
    """
    budget = ON_A_CPU["token_budget"]
    options = methods.load("lora").defaults
    job = Job("lora", options, parents=1, batch=16, sequences=5, token_budget=budget)
    least = peak.least(shape(registry.MINI_CONFIG), job, {16: "bfloat16"})
    roomy, _ = recipe(tmp_path, memory=20.0, task="csqa", on="qqp", method="lora", backbone="mini")
    tight, _ = recipe(
        tmp_path,
        memory=least.needs / GIB * 0.99,
        task="csqa",
        on="qqp",
        method="lora",
        backbone="mini",
    )
    assert [run["spec"]["bits"] for run in roomy["runs"]] == [32, 32]
    assert {run["spec"]["bits"] for run in tight["runs"]} == {8} and tight["id"] != roomy["id"]
    full, _ = recipe(tmp_path, memory=20.0, method="full", backbone="mini")
    here = {32: native_dtype("cpu")}  # what a full training computes in on this machine
    lasting = Job("full", {}, length=256, keep=("optimizer",), token_budget=budget)
    least = peak.least(shape(registry.MINI_CONFIG), lasting, here)
    lean, said = recipe(tmp_path, memory=least.needs / GIB * 0.97, method="full", backbone="mini")
    assert full["runs"][0]["spec"]["hyper"]["optimizer"] == "adamw" and full["id"] != lean["id"]
    assert lean["runs"][0]["spec"]["hyper"]["optimizer"] == "adamw8bit" and any(
        "8-bit optimizer" in text for text in said
    )
    with pytest.raises(RequestError, match=r"--memory .*mnli .*\d\.\d+ GiB"):
        recipe(
            tmp_path,
            "train.optimizer=adamw",
            memory=least.needs / GIB * 0.97,
            method="full",
            backbone="mini",
        )


def test_a_budget_that_is_too_small_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    done = xtl(
        "recipe",
        "mnli",
        "--backbone",
        "tiny",
        "--data",
        "embedded",
        "--device",
        "cpu",
        "--memory",
        "0.01",
        "--runs",
        tmp_path,
        code=2,
    )
    said = complaints(done)
    assert re.search(r"--memory 0.01: mnli .* needs 0\.\d\d GiB at least", said[0]) and not list(
        tmp_path.iterdir()
    )
    smallest = re.findall(r"needs ([\d.]+) GiB", said[0])[0]
    assert recipe(tmp_path, memory=float(smallest), task="mnli", bits="auto")[0]["dry_run"]
    done = xtl(
        "recipe",
        "mnli",
        "--backbone",
        "tiny",
        "--data",
        "embedded",
        "--memory",
        "-2",
        "--runs",
        tmp_path,
        code=2,
    )
    assert complaints(done) == ["--memory -2: takes a number of GiB above 0"]


SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_memory.py"


def test_the_gpu_benchmark_runs_its_code_on_the_cpu(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--smoke", "--out", str(tmp_path)]
    for part in ("lora r=16, 8 bits, bfloat16, classify", "8-bit optimizer, checkpointing"):
        subprocess.run([*command, "--only", part], check=True, capture_output=True, timeout=300)
    found = json.loads((tmp_path / "gpu-memory.json").read_text())
    assert len(found["cases"]) == len({row["case"] for row in found["cases"]}) == 6, (
        "the second call added to the first's"
    )
    for row in found["cases"]:
        assert row["seconds"] > 0 and row["predicted_bytes"] == sum(row["predicted_lines"].values())
        assert row["job"]["batch"] == 4 and row["goal_met"] is None and "peak_bytes" not in row
    page = (tmp_path / "gpu-memory.md").read_text()
    assert "int8 is not representative" in page and page.count("not measured") == 2
    assert all(f"| {row['case']} |" in page for row in found["cases"])


@pytest.mark.skipif(
    torch.cuda.is_available(),
    reason="a CUDA device is here: the refusal is for machines without one",
)
def test_the_gpu_benchmark_asks_for_a_gpu(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (
        done.returncode == 2
        and "needs a CUDA device" in done.stderr
        and not list(tmp_path.iterdir())
    )


def test_evaluation_stays_within_what_training_takes() -> None:
    small = settle(LARGE, {"a": large()}, int(1.2 * GIB), {16: "bfloat16"}, "--memory")["a"]
    roomy = settle(LARGE, {"a": large()}, None, {16: "bfloat16"})["a"]
    assert small.job.length <= small.evaluation_tokens < roomy.evaluation_tokens
