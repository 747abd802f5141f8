"""Backbones as models: the headless encoder at 32, 16, 8 or 4 bits, frozen, and its tokenizer.

Everything is loaded from a directory: a hub id's files are fetched first (at the recorded
revision), so that reading them needs no further network and is the same for all sources.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    AutoTokenizer,
    XLMRobertaConfig,
    XLMRobertaModel,
)
from transformers.utils import logging as transformers_logging

from adapters_xtl.backbones import BITS, DTYPES, Backbone, embedded, registry
from adapters_xtl.backbones import config as config_file
from adapters_xtl.backbones.checkpoint import checkpoint_in
from adapters_xtl.backbones.fingerprint import fingerprinted
from adapters_xtl.backbones.quantised import (
    quantisation_options,
    settle_quantised_layers,
    weight_dtype,
)
from adapters_xtl.base.errors import MismatchError, RequestError
from adapters_xtl.base.files import symlink_or_copy
from adapters_xtl.base.hub import hub_errors

__all__ = [
    "folder",
    "load",
    "random_encoder",
    "settle_quantised_layers",
    "tokenizer",
    "tokenizer_digest",
    "usable",
    "weights_digest",
]

_UNREADABLE = (
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    EOFError,
    ImportError,
    SafetensorError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


def load(
    backbone: Backbone,
    *,
    bits: int = 32,
    dtype: str = "float32",
    device: str = "cpu",
    layers: int | None = None,
    offload: bool = False,
) -> tuple[nn.Module, Any]:
    """Returns (encoder, tokenizer). The encoder has no pooler and no head, is in eval mode, and no
    parameter of it requires a gradient.

    bits     32: float32 weights. 16: bfloat16 weights, or float16 where `dtype` says so. 8, 4:
             linear layers as int8 or nf4 (bitsandbytes; on the CPU too); what is not quantised in
             `dtype`, which is also what they compute in
    layers   only the first so many layers are kept (enough to read hidden states up to that one)
    offload  the table of token embeddings stays in the CPU's memory, whatever the device; only the
             rows that are looked up are copied to it

    RequestError when files are missing, cut short or of another architecture; MismatchError when a
    directory no longer holds what `backbone.fingerprint` was taken of.
    """
    if bits not in BITS or dtype not in DTYPES:
        raise ValueError(f"bits {bits} of {BITS}, dtype {dtype} of {DTYPES}")
    usable(device)
    if backbone.source == "directory" and backbone.fingerprint:
        now = fingerprinted(backbone).fingerprint
        if now != backbone.fingerprint:
            raise MismatchError(
                f"backbone {backbone.name}: its files changed (fingerprint {now[:12]}, was"
                f" {backbone.fingerprint[:12]})"
            )
    path = folder(backbone)
    own_tokenizer = _tokenizer(path.resolve(), backbone.name)
    _check_token_ids(own_tokenizer, int(registry.config(backbone)["vocab_size"]), backbone.name)
    if backbone.source == "random":
        encoder = _random(bits, dtype, device, offload)
    else:
        encoder = _read(path, backbone.name, bits, dtype, device, offload)
    if layers is not None:
        total = encoder.config.num_hidden_layers
        if not 0 < layers <= total:
            raise RequestError(f"backbone {backbone.name} has {total} layers, not {layers}")
        encoder.encoder.layer = encoder.encoder.layer[:layers]
        encoder.config.num_hidden_layers = layers
    # libraries write this into the modules they save: a name that means something elsewhere, not a
    # path of this machine
    name = backbone.location if backbone.source == "hub" else Path(backbone.name).name
    encoder.name_or_path = encoder.config._name_or_path = name
    encoder.eval()
    encoder.requires_grad_(False)
    return encoder, own_tokenizer


def _check_token_ids(tokenizer: Any, rows: int, name: str) -> None:
    """RequestError for a tokenizer with ids that the table of `rows` token embeddings lacks: the
    first text with such a token would end in an index error, on CUDA in a device-side assert.
    """
    highest = _highest_id(tokenizer)
    if highest >= rows:
        raise RequestError(
            f"backbone {name}: its tokenizer has ids up to {highest:,}, its table of embeddings has"
            f" {rows:,} rows: they are not of one model"
        )


@lru_cache(maxsize=4)
def _highest_id(tokenizer: Any) -> int:
    """Of a tokenizer's tokens; reading a table of 250,000 takes a third of a second.

    A Unigram model (XLM-R's) is a list, whose ids have no gap: there the table is not read.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and type(backend.model).__name__ == "Unigram":
        highest: int = backend.get_vocab_size(with_added_tokens=False) - 1
        return max([highest, *map(int, backend.get_added_tokens_decoder())])
    return max(tokenizer.get_vocab().values(), default=0)


def usable(device: str) -> None:
    """RequestError where torch cannot use a device that was asked for, or that the driver shows."""
    if device == "cuda" and not torch.cuda.is_available():
        raise RequestError(
            f"--device cuda: torch {torch.__version__} finds no CUDA device (none here, a CPU"
            " build, or a driver older than it needs): give --device cpu, or install a torch that"
            " fits the driver"
        )
    if device == "mps" and not torch.backends.mps.is_available():
        raise RequestError(
            f"--device mps: torch {torch.__version__} finds no Apple GPU (macOS older than it"
            " needs, or a build without mps): give --device cpu"
        )


def folder(backbone: Backbone) -> Path:
    """The directory with the backbone's files: built (mini), fetched (hub), given; for `tiny` its
    tokenizer's.
    """
    if backbone.source in ("embedded", "random"):
        return embedded.prepare()
    if backbone.source == "directory":
        return Path(backbone.location)
    from huggingface_hub import snapshot_download

    # pinned: what is fetched is the revision that was listed, even if the hub has moved on
    # meanwhile
    pinned = backbone if backbone.revision else fingerprinted(backbone)
    names = list(registry.files(pinned))
    with hub_errors(pinned.location, "fetching"):
        return Path(
            snapshot_download(
                pinned.location, revision=pinned.revision or None, allow_patterns=names
            )
        )


def tokenizer(backbone: Backbone) -> Any:
    """The backbone's tokenizer (a fast one where its files allow)."""
    return _tokenizer(folder(backbone).resolve(), backbone.name)


def weights_digest(encoder: nn.Module) -> str:
    """sha256 over name, shape, dtype and bytes of every parameter and buffer, quantisation scales
    included.

    Of the bare encoder: libraries that add parameters rename it. Moving it between devices changes
    nothing.
    """
    total = hashlib.sha256()
    for name, tensor in sorted(_tensors(encoder), key=lambda item: item[0]):
        total.update(json.dumps([name, list(tensor.shape), str(tensor.dtype)]).encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        total.update(flat.view(torch.uint8).numpy().data)
    return total.hexdigest()


def tokenizer_digest(tokenizer: Any) -> str:
    """sha256 of what decides the tokens of a text; padding and truncation, which every call sets
    anew, are left out.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        content = json.loads(backend.to_str())
        content.pop("truncation", None)
        content.pop("padding", None)
    else:
        content = [
            type(tokenizer).__name__,
            tokenizer.get_vocab(),
            tokenizer.init_kwargs.get("do_lower_case"),
        ]
    special = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}
    text = json.dumps([content, special], ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences transformers' remarks on unused heads; missing weights are an error of `_read`."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


class _OnCPU(nn.Embedding):
    """A token embedding table in the CPU's memory; the looked-up rows go to the ids' device.

    Its name, its state and its place in the model are those of the table that it replaces.
    """

    @staticmethod
    def of(table: nn.Embedding) -> _OnCPU:
        on_cpu = _OnCPU(1, 1, padding_idx=0, device="meta")
        on_cpu.num_embeddings, on_cpu.embedding_dim = table.num_embeddings, table.embedding_dim
        on_cpu.padding_idx, on_cpu.training = table.padding_idx, table.training
        on_cpu.weight = nn.Parameter(table.weight.detach().cpu(), requires_grad=False)
        return on_cpu

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input.to(self.weight.device)).to(input.device, non_blocking=True)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> _OnCPU:
        # what `.to()` and `.half()` come down to: the type is taken over, the device is not
        self.weight.data = self.weight.data.to(fn(torch.empty(0, dtype=self.weight.dtype)).dtype)
        return self


def _placed(encoder: Any, device: str, offload: bool, quantised: bool) -> Any:
    """Moves the encoder to its device, except for the token embeddings with `offload`.

    A quantised encoder is there already: bitsandbytes quantises on the device, so its table of
    token embeddings passes through the device's memory.
    """
    if offload:
        encoder.set_input_embeddings(_OnCPU.of(encoder.get_input_embeddings()))
    return encoder if quantised else encoder.to(device)


def _read(path: Path, name: str, bits: int, dtype: str, device: str, offload: bool) -> Any:
    """The encoder in directory `path`; RequestError unless the files hold every one of
    its weights.
    """
    settings = _settings(path, name)
    options = quantisation_options(settings, name, bits, dtype, device)
    try:
        # an explicit dtype: on a quantised model the default would leave some tensors in float16
        with _quiet(), _weights_alone(path) as weights:
            encoder, loaded = AutoModel.from_pretrained(
                weights,
                config=settings,
                add_pooling_layer=False,
                attn_implementation="sdpa",
                dtype=weight_dtype(bits, dtype),
                local_files_only=True,
                output_loading_info=True,
                **options,
            )
    except torch.OutOfMemoryError:
        raise
    except _UNREADABLE as error:
        raise RequestError(
            f"backbone {name}: its weights cannot be read ({_first_line(error)})"
        ) from error
    missing = sorted(loaded["missing_keys"])
    if missing:
        raise RequestError(
            f"backbone {name}: its weights lack {len(missing)} of the encoder's, e.g. {missing[0]}"
        )
    settle_quantised_layers(encoder)
    return _placed(encoder, device, offload, quantised=bool(options))


@lru_cache(maxsize=4)
def _tokenizer(source: Path, name: str) -> Any:
    with tempfile.TemporaryDirectory() as links, _quiet():
        # Without a config.json beside it, transformers does not take the tokenizer for one of
        # Mistral's, whose regular expression it would warn of; and it does not ask the hub what the
        # model derives from.
        for file in registry.tokenizer_files(source):
            symlink_or_copy((source / file).resolve(), Path(links) / file)
        settings = _settings(source, name)
        try:
            tokenizer = AutoTokenizer.from_pretrained(links, config=settings, local_files_only=True)
        except Exception as error:  # tokenizers raises bare Exception on a file it cannot parse
            raise RequestError(
                f"backbone {name}: its tokenizer cannot be read ({_first_line(error)})"
            ) from error
    tokenizer.name_or_path = str(source)
    for kept in ("vocab_file", "merges_file"):  # a slow tokenizer copies them when it is saved
        if copied := getattr(tokenizer, kept, None):
            setattr(tokenizer, kept, str(source / Path(str(copied)).name))
    return tokenizer


def _settings(path: Path, name: str) -> Any:
    """The library's configuration of the encoder in directory `path`, made of the checked keys of
    its config.json alone: what else stands there, the library never sees.
    """
    config = config_file.read_config(path / "config.json", f"backbone {name}")
    settings = CONFIG_MAPPING[config["model_type"]](**config_file.encoder_settings(config))
    settings._attn_implementation = "sdpa"
    return settings


@contextlib.contextmanager
def _weights_alone(path: Path) -> Iterator[Path]:
    """A directory with links to the weights in `path` and nothing else, for a library that would
    look for an adapter, code or another config beside them.
    """
    checkpoint = checkpoint_in(path, str(path))
    with tempfile.TemporaryDirectory() as links:
        for file in (*checkpoint.weights(), *checkpoint.index()):
            symlink_or_copy((path / file).resolve(), Path(links) / file)
        yield Path(links)


def _random(bits: int, dtype: str, device: str, offload: bool) -> Any:
    """The random encoder, the same in every process; the global random state is left as it was."""
    settings = XLMRobertaConfig(**{**registry.TINY_CONFIG, "attn_implementation": "sdpa"})
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(
            registry.TINY_SEED
        )  # torch.manual_seed would also set CUDA's
        encoder: Any = XLMRobertaModel(settings, add_pooling_layer=False)
    if bits in (32, 16):
        return _placed(
            encoder.to(dtype=weight_dtype(bits, dtype)), device, offload, quantised=False
        )
    with tempfile.TemporaryDirectory() as folder:
        encoder.save_pretrained(folder)
        return _read(Path(folder), "tiny", bits, dtype, device, offload)


def random_encoder(backbone: Backbone, seed: int, device: str = "cpu") -> tuple[nn.Module, Any]:
    """Returns (encoder, tokenizer): an encoder of the backbone's sizes in float32 with fresh random
    weights, those that its library starts a pretraining from, and the backbone's own tokenizer.

    The weights follow from `seed` alone; the global random state is left as it was.
    """
    config = registry.config(backbone)
    settings = CONFIG_MAPPING[config["model_type"]](**config_file.encoder_settings(config))
    settings._attn_implementation = "sdpa"
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        encoder: Any = AutoModel.from_config(settings, add_pooling_layer=False)
    encoder.eval()
    encoder.requires_grad_(False)
    return encoder.to(device), tokenizer(backbone)


def _tensors(encoder: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from encoder.named_buffers()
    for name, parameter in encoder.named_parameters():
        yield name, parameter
        state = getattr(parameter, "quant_state", None)
        if state is not None:  # nf4: the scales of its blocks
            yield f"{name}.absmax", state.absmax
    for name, module in encoder.named_modules():
        # int8: the scales of its rows move from the weight to the layer's state in the first
        # forward pass
        scales = getattr(getattr(module, "weight", None), "SCB", None)
        if scales is None:
            scales = getattr(getattr(module, "state", None), "SCB", None)
        if scales is not None:
            yield f"{name}.weight.SCB", scales
