"""The states of texts at the lowest layer that gets a module, computed once and kept. (The prefix
is the frozen layers below: nothing to do with prefix tuning.)

Below that layer nothing trains. With `train.prefix=fixed` these layers run without dropout, in
training too, and what they give for a text is a constant of the text: the states are looked up in
`backbones.prefix_files`, else computed. Where they come from changes no bit of a run, because they
are computed in one way only:

- Texts of one length share a batch, unpadded, whose size hangs on the length alone. A batch that is
  not full is filled up with repeats, so that every text of a length is computed by kernels of the
  same shapes, in training, in evaluation, and whatever other texts are asked for.
- The first and the last place of a length's first batch hold the same text. Where their bits differ
  (a kernel that treats the edge of a matrix in another way), texts of that length are computed one
  by one. So are all texts through int8 layers, whose outliers are found over a whole batch.
- They are always rounded to the type of the cache, also where they are not kept, so that kept and
  computed states are equal.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import nn

from adapters_xtl.backbones.config import encoder_settings
from adapters_xtl.backbones.prefix_files import (
    BUDGET,
    GIB,
    PrefixFiles,
    budget_bytes,
    text_key,
)
from adapters_xtl.base.errors import RunError, XtlError, out_of_memory
from adapters_xtl.base.files import digest
from adapters_xtl.base.machine import cpu_name
from adapters_xtl.base.progress_lines import ProgressLine
from adapters_xtl.formats import Item
from adapters_xtl.models.side_by_side import SharedChange
from adapters_xtl.models.tensors import autocast, tensor_digest, tensors_of
from adapters_xtl.runs.records import PrefixCost

__all__ = ["STATES", "Prefix"]

STATES = "prefix_states"  # key of a batch: (B, T, hidden)
# tokens of a batch: enough for efficient products, few enough that repeats cost little
BATCH_TOKENS = {"cpu": 256, "mps": 4096, "cuda": 4096}
Array = np.ndarray[Any, Any]
Text = tuple[Array, Array | None]  # ids and token types


class Prefix:
    """The embeddings and the layers below `layer` of an encoder with modules attached.

    fingerprint  of the backbone
    weights      name of a tensor of the bare encoder → its digest, where it is known already
    parents      digests of the parents' modules that reach below `layer`, the lowest first:
                 settings that change the states, such as LoRA's alpha or a bottleneck's
                 non-linearity, are in no tensor
    bits, dtype  of the encoder's weights and of matrix products
    notify       takes lines for the user

    RunError where something below `layer` trains, RequestError where XTL_PREFIX_GIB is no budget.
    """

    def __init__(
        self,
        encoder: nn.Module,
        layer: int,
        *,
        fingerprint: str,
        weights: Mapping[str, str],
        parents: Sequence[str] = (),
        bits: int,
        dtype: str,
        device: str,
        notify: Callable[[str], None],
    ) -> None:
        self.layer = layer
        self._above = SharedChange()
        self._encoder, self._core = encoder, _core(encoder)
        self._dtype, self._device, self._notify = dtype, device, notify
        self._size = 1 if bits == 8 else BATCH_TOKENS[device]
        self._alone: set[int] = set()
        self._checked: set[int] = set()
        self._parts = [*self._core.embeddings.modules()]
        for block in self._core.encoder.layer[:layer]:
            self._parts += block.modules()
        tensors = dict(_below(self._core, layer))
        training = [name for name, tensor in tensors.items() if tensor.requires_grad]
        if training:
            raise RunError(f"{training[0]} trains, below the lowest layer with a module ({layer})")
        one = np.zeros(2, dtype=np.int32)
        self.native = self._forward([(one, None)]).dtype  # the type in which layers hand over
        computed: torch.dtype = getattr(torch, dtype)
        self._stored = self.native if self.native.itemsize == 2 else computed
        self._token_bytes = self._core.config.hidden_size * self._stored.itemsize
        identity = {
            "layer": layer,
            "backbone": fingerprint,
            "weights": digest(
                {
                    name: weights.get(name) or tensor_digest(name, tensor)
                    for name, tensor in tensors.items()
                }
            ),
            "parents": list(parents),
            "config": encoder_settings(self._core.config.to_dict()),
            "attention": self._core.config._attn_implementation,
            "bits": bits,
            "dtype": dtype,
            "stored": str(self._stored).removeprefix("torch."),
            "pass": self._size,
            **_machine(device, bits),
        }
        self.files = PrefixFiles(identity, self._token_bytes, budget_bytes(), notify)
        self._tokens: dict[bytes, int] = {}  # of each text that was prepared
        self._computed, self._seconds = 0, 0.0

    def prepare(
        self, items: Iterable[Item], interrupted: Callable[[], bool] = lambda: False
    ) -> None:
        """Computes what the cache lacks of the items' states, and keeps it there, as far as the
        budget goes. KeyboardInterrupt where `interrupted` says so.
        """
        texts = {text_key(*text): text for item in items for text in _texts(item)}
        self._tokens |= {key: len(ids) for key, (ids, _) in texts.items()}
        missing = self.files.lacking(texts)
        if not missing or self.files.full:
            return
        missing.sort(key=lambda key: (len(texts[key][0]), key))
        try:
            self._fill({key: texts[key] for key in missing}, interrupted)
        except (XtlError, OSError) as error:
            if out_of_memory(error):
                raise
            self.files.full = True
            self._notify(f"prefix cache: {error}; no further states are kept")

    def states(self, items: Sequence[Item], width: int) -> torch.Tensor:
        """States of all sequences of the items, in order: (sequences, width, hidden), zero behind
        the end of a sequence.
        """
        texts = [text for item in items for text in _texts(item)]
        keys = [text_key(*text) for text in texts]
        found = {key: self.files.get(key) for key in keys}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if found[key] is None}
        computed = self._compute(list(missing.values()), lambda: False)
        found.update(zip(missing, computed, strict=True))
        padded = np.zeros((len(keys), width, self._token_bytes), dtype=np.uint8)
        for row, key in enumerate(keys):
            array = found[key]
            assert array is not None
            padded[row, : len(array)] = array
        states = torch.from_numpy(padded).view(self._stored)
        return states.to(self._device, non_blocking=True).to(self.native)

    def above(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Hidden states of the last layer, from those at `layer`: (B, T, hidden) both."""
        with self._above.made(self._only_above):
            outputs = self._encoder(inputs_embeds=states, attention_mask=attention_mask)
        last: torch.Tensor = outputs.last_hidden_state
        return last

    def _only_above(self) -> Callable[[], None]:
        """Takes the embeddings and the layers below off; gives what puts them back."""
        core, embeddings, layers = self._core, self._core.embeddings, self._core.encoder.layer
        core.embeddings, core.encoder.layer = _NoEmbeddings(), layers[self.layer :]

        def whole() -> None:
            core.embeddings, core.encoder.layer = embeddings, layers

        return whole

    def cost(self) -> PrefixCost:
        """What was asked and computed since this object was made."""
        return PrefixCost(
            layer=self.layer,
            texts=len(self._tokens),
            bytes=sum(self._tokens.values()) * self._token_bytes,
            kept=sum(key in self.files for key in self._tokens),
            computed=self._computed,
            seconds=round(self._seconds, 2),
        )

    def _fill(self, missing: Mapping[bytes, Text], interrupted: Callable[[], bool]) -> None:
        """Computes and keeps states, a file at a time. Another process that lacks the same ones
        takes turns with this one.
        """
        line, total, kept = ProgressLine(unwatched=None), len(missing), 0
        queue = list(missing)
        while queue and not self.files.full:
            with self.files.writing():
                queue = self.files.lacking(queue)
                chunk: list[bytes] = []
                size = 0
                while len(chunk) < len(queue) and size < self.files.file_bytes:
                    size += len(missing[queue[len(chunk)]][0]) * self._token_bytes
                    chunk.append(queue[len(chunk)])
                states = self._compute([missing[key] for key in chunk], interrupted)
                if chunk and self.files.add(list(zip(chunk, states, strict=True))):
                    queue = queue[len(chunk) :]
            kept = total - len(queue)
            if line.due or not queue:
                line.show(f"states at layer {self.layer}: {kept}/{total} texts", last=not queue)
        if self.files.full:
            self._notify(
                f"the budget of {self.files.budget / GIB:g} GiB ({BUDGET}) holds the states of"
                f" {len(self._tokens) - len(queue)} of {len(self._tokens)} texts; those of the"
                " others are computed whenever they are needed"
            )

    def _compute(self, texts: Sequence[Text], interrupted: Callable[[], bool]) -> list[Array]:
        """The stored form of each text's states: uint8 (tokens, bytes of a token)."""
        started = time.monotonic()
        stored: list[Array] = [np.empty(0)] * len(texts)
        by_length: dict[int, list[int]] = {}
        for number, (ids, _) in enumerate(texts):
            by_length.setdefault(len(ids), []).append(number)
        for length, queue in sorted(by_length.items()):
            while queue:
                if interrupted():
                    raise KeyboardInterrupt
                size = 1 if length in self._alone else max(1, self._size // length)
                checks = size > 1 and length not in self._checked
                taken = queue[: size - 1 if checks else size]
                filled = [*taken, *[taken[0]] * (size - len(taken))]
                states = self._forward([texts[number] for number in filled])
                if checks:
                    self._checked.add(length)
                    if not torch.equal(states[0], states[-1]):
                        self._alone.add(length)
                        continue
                rounded = states[: len(taken)].to(self._stored).cpu().contiguous()
                for number, array in zip(taken, rounded.view(torch.uint8).numpy(), strict=True):
                    stored[number] = array
                queue = queue[len(taken) :]
        self._computed += len(texts)
        self._seconds += time.monotonic() - started
        return stored

    @torch.no_grad()
    def _forward(self, texts: Sequence[Text]) -> torch.Tensor:
        """States (texts, T, hidden) at the layer, of texts of one length, without dropout."""
        batch = {"input_ids": np.stack([ids for ids, _ in texts]).astype(np.int64)}
        batch["attention_mask"] = np.ones_like(batch["input_ids"])
        kinds = [types for _, types in texts if types is not None]
        if kinds:
            batch["token_type_ids"] = np.stack(kinds).astype(np.int64)
        tensors = {name: torch.from_numpy(value).to(self._device) for name, value in batch.items()}
        modes = [part.training for part in self._parts]
        layers = self._core.encoder.layer
        for part in self._parts:
            part.training = False
        self._core.encoder.layer = layers[: self.layer]
        try:
            with _eager(), autocast(self._device, self._dtype):
                states: torch.Tensor = self._encoder(**tensors).last_hidden_state
        finally:
            self._core.encoder.layer = layers
            for part, mode in zip(self._parts, modes, strict=True):
                part.training = mode
        return states


class _NoEmbeddings(nn.Module):
    """In the place of the embeddings: hands on `inputs_embeds` as they are."""

    def forward(self, inputs_embeds: torch.Tensor, **others: Any) -> torch.Tensor:
        return inputs_embeds


def _core(encoder: Any) -> Any:
    return encoder.get_base_model() if hasattr(encoder, "get_base_model") else encoder


def _texts(item: Item) -> Iterator[Text]:
    """The token sequences of an item, in order."""
    kinds: Sequence[Array | None] = item.types or [None] * len(item.ids)
    yield from zip(item.ids, kinds, strict=True)


def _below(core: nn.Module, layer: int) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of the embeddings and of the layers below `layer`, by name."""
    for name, tensor in tensors_of(core):
        words = name.split(".")
        if words[0] == "embeddings" or (
            words[:2] == ["encoder", "layer"] and int(words[2]) < layer
        ):
            yield name, tensor


def _machine(device: str, bits: int) -> dict[str, Any]:
    """What else decides the bits of a product."""
    packages = ("torch", "transformers", *(("bitsandbytes",) if bits in (8, 4) else ()))
    hardware = [cpu_name(), torch.backends.cpu.get_cpu_capability()]
    if device == "cuda":
        hardware = [torch.cuda.get_device_name(), str(torch.version.cuda)]
    return {
        "device": device,
        "hardware": hardware,
        "threads": torch.get_num_threads() if device == "cpu" else 0,
        "versions": {name: version(name) for name in packages},
        "float32": torch.get_float32_matmul_precision(),
    }


def _eager() -> Any:
    """Context without compiled layers: their kernels round otherwise, and states must not depend on
    them.
    """
    if "torch._dynamo" not in sys.modules:
        return contextlib.nullcontext()
    return torch.compiler.set_stance("force_eager")
