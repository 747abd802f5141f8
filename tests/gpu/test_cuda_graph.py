"""What autograd keeps on CUDA, asked of torch's own CUDA dispatch: fake tensors, so that no device
is needed.

The CPU's tests put this together by hand (`tests/memory_meter.py`); here torch says which kernels
keep what. Not for 8 and 4 bits: bitsandbytes' layers hold state that cannot be faked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

if torch.version.cuda is None:
    pytest.skip("torch is a CPU build: it has no CUDA dispatch to ask", allow_module_level=True)

import transformers.modeling_attn_mask_utils
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from adapters_xtl import formats, methods
from adapters_xtl.backbones.shape import shape
from adapters_xtl.memory import activations
from adapters_xtl.memory.activations import Job
from adapters_xtl.memory.peak import Way
from adapters_xtl.models.network import Model, on_device
from benchmarks.gpu_memory import Case, made, rows, weights

pytestmark = pytest.mark.gpu
CONFIG = {
    "model_type": "xlm-roberta",
    "num_hidden_layers": 4,
    "hidden_size": 256,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
    "vocab_size": 3000,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "backbone"
    weights(CONFIG, path)
    return path


@pytest.fixture(autouse=True)
def _autocast() -> Iterator[None]:
    """As `torch.autocast("cuda")` has it, which refuses to work without a device."""
    torch.autocast_increment_nesting()
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    yield
    torch.set_autocast_enabled("cuda", False)
    torch.autocast_decrement_nesting()
    torch.clear_autocast_cache()


class _Efficient(TorchFunctionMode):
    """Attention by the memory-efficient kernel, which CUDA takes where there is a mask; the choice
    itself asks a device.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value = args
        dtype = torch.bfloat16 if torch.is_autocast_enabled("cuda") else query.dtype
        bias = kwargs["attn_mask"].to(dtype).expand(*query.shape[:3], key.shape[2])
        given = (each.to(dtype) for each in (query, key, value))
        return torch.ops.aten._scaled_dot_product_efficient_attention(
            *given, bias, True, kwargs["dropout_p"]
        )[0]


def _like(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")


def _faked(model: Model) -> list[torch.UntypedStorage]:
    """Puts fake CUDA tensors in the place of all parameters and buffers; their storages."""
    for module in model.modules():
        for name, each in module.named_parameters(recurse=False):
            module._parameters[name] = torch.nn.Parameter(
                _like(each), requires_grad=each.requires_grad
            )
        for name, each in module.named_buffers(recurse=False):
            module._buffers[name] = _like(each)
    return [each.untyped_storage() for each in (*model.parameters(), *model.buffers())]


def _saved(model: Model, job: Job) -> int:
    """Bytes of the tensors that autograd saves in one forward pass, each storage once, parameters
    left out.
    """
    found: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            found[storage._cdata] = storage
        return tensor

    arrays = formats.load(job.format).collate(rows(job, CONFIG["vocab_size"]), model.tokenizer, 8)
    made_of = on_device(arrays, "cpu")
    model.train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        kept = _faked(model)
        known = {storage._cdata for storage in kept}
        batch = {name: _like(value) for name, value in made_of.items()}
        torch.set_autocast_enabled("cuda", job.dtype == "bfloat16")
        with _Efficient(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            outputs = model("task", batch)  # alive, so that no storage is counted twice
        total = sum(storage.nbytes() for storage in found.values())
    del outputs, kept
    return total


@pytest.mark.parametrize("format", ["classify", "span"])
@pytest.mark.parametrize(
    ("method", "bits", "dtype", "parents"),
    [
        ("full", 32, "float32", 0),
        ("full", 32, "bfloat16", 0),
        *(
            (method, bits, dtype, parents)
            for method in ("bottleneck", "lora")
            for parents in (0, 1, 2)
            for bits, dtype in ((32, "float32"), (32, "bfloat16"), (16, "bfloat16"))
        ),
    ],
)
def test_what_autograd_keeps_is_counted(
    method: str,
    bits: int,
    dtype: str,
    parents: int,
    format: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        transformers.modeling_attn_mask_utils, "is_torchdynamo_compiling", lambda: True
    )  # asks no data
    job = Job(
        method,
        methods.load(method).defaults,
        parents=parents,
        bits=bits,
        dtype=dtype,
        device="cuda",
        length=64,
        batch=8,
        format=format,
        labels=3,
    )
    form, tokens = shape(CONFIG), job.batch * job.length
    per_token, copies = activations.head(form, job)
    expected = sum(token * tokens + fixed for token, fixed in activations.layers(form, job))
    expected += per_token * tokens + copies
    if method == "full":
        expected += tokens * form.hidden * 5  # the embeddings' sum and their dropout
    measured = _saved(made(Case(replace(job, device="cpu"), Way(job.batch)), folder), job)
    assert expected == pytest.approx(measured, rel=0.05), (
        f"{expected / measured:.3f} of {measured:,}"
    )
