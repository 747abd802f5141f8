"""`Format`: the base class of every format, with what is the same for most of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from adapters_xtl.base.errors import DataError
from adapters_xtl.formats._items import Item, Lengths, Tokenizer, has_lone_surrogate, pad
from adapters_xtl.formats._plain_heads import PlainHead

if TYPE_CHECKING:
    import torch
    from torch import nn

    from adapters_xtl.tasks import Task

__all__ = ["Batch", "Example", "Fault", "Format", "HeadSizes", "ParallelText"]

Example = Mapping[str, Any]
Batch = dict[str, np.ndarray]


class Fault(NamedTuple):
    """Why an example is unfit. `scorable`: it can still be predicted and scored, so evaluation
    keeps it.
    """

    reason: str
    scorable: bool


class ParallelText(NamedTuple):
    """What of an example is held against its translations: one text, or a pair read together.

    language  its ISO code; "" where it is that of the rows
    item      what it shares with its translations; "" where the row's id, or its place, tells
    group     what several items of one language share (a premise, a paragraph); "" for nothing
    """

    texts: tuple[str, ...]
    language: str = ""
    item: str = ""
    group: str = ""


@dataclass(frozen=True)
class HeadSizes:
    """What decides how much a head keeps for its backward pass.

    hidden   width of the encoder's states
    labels   number of class names
    length   tokens of a sequence
    compute  bytes of an element in matrix products, `states` of an element between layers
    dropout  whether the head drops elements, and on `cuda` in how many bytes each is noted
    """

    hidden: int
    labels: int
    length: int
    compute: int
    states: int
    dropout: bool
    cuda: bool


class Format:
    """Everything about one kind of task: its examples, its tensors, its head, its predictions.

    A format is one file of this folder that ends in `FORMAT = YourFormat()`; its stem is the name
    that tasks give as `format`. Importing the file imports no torch: methods that need it import
    it inside. `fault`, `encode`, `loss` and `decode` must be written; the rest has defaults.

    `labels` is, everywhere, the sequence of the head's class names, empty where the format has
    none. An example is what a task's `example(row)` returns.
    """

    name: str = ""  # the file's stem; set by `formats.load`

    # ------------------------------------------------------------------ constants

    fields: tuple[str, ...] = ("text",)
    """The texts of an example, by which it is encoded, grouped, measured, and asked for."""
    optional_fields: tuple[str, ...] = ()
    """Further texts that an example may have."""
    list_fields: tuple[str, ...] = ()
    """Those of `fields` that hold a list of texts instead of one text."""
    gold_fields: tuple[str, ...] = ("label",)
    """What an example holds of the right answer."""
    input_help: str = '{"text": …}'
    """What a person has to give, shown where they gave something else."""
    has_head: bool = True
    """Whether a head is trained. False: the encoder's own states are the answer (retrieval)."""
    reads_every_token: bool = False
    """Whether the head gives an output for every token instead of one for each sequence."""
    reads_windows: bool = False
    """Whether an input that is too long is read in windows, which share `train.stride` tokens."""
    length_unit: str = "characters"
    """What `length` counts."""
    item_noun: str = "inputs"
    """What the encoder reads, in the plural, where a count of it is shown."""
    usual_sequences: int = 1
    """Sequences of an example where no rows are there to tell: for the memory plan."""
    usual_labels: int = 1
    """Labels of a task that names none, where no rows are there to tell: for the memory plan."""
    hub_task: str = ""
    """The hub's name of what the head does (its pipeline tag); empty where it has none."""
    xtreme_suffix: str = ""
    """Suffix of XTREME's prediction files; empty: XTREME has no file of this format."""
    scoring_packages: tuple[str, ...] = ()
    """Import names of packages of an extra (see `base/extras.py`) that `decode` needs."""
    pooling: str = ""
    """Of a format without a head: the name that sentence-transformers has for its `pooled`."""
    plain_heads: Mapping[str, PlainHead] = {}
    """Model type → the class of transformers that has this format's head; without an entry, `xtl
    merge` writes the encoder and the head side by side."""

    # ------------------------------------------------------------------ rows

    def fault(self, example: Example, labels: Sequence[str]) -> Fault | None:
        """The first thing wrong with an example, or None. `labels` empty: any label is known."""
        raise NotImplementedError

    def identity(self, example: Example) -> tuple[Any, ...]:
        """What must be unique within a split because scores are kept by it; () for nothing."""
        return ()

    def keeps_duplicate(self, example: Example, first: Example) -> bool:
        """Whether an example with the identity of an earlier one is kept, under another id."""
        return False

    def hidden_gold(self, examples: Sequence[Example]) -> str:
        """How it shows that a split's gold was blanked before it was published; "" where it does
        not.
        """
        return ""

    def group(self, example: Example) -> str:
        """Examples of the same group never part when a select slice is cut off the train rows."""
        left_out = {"id", "stage", "language", *self.gold_fields}
        content = {key: value for key, value in example.items() if key not in left_out}
        return json.dumps(content, ensure_ascii=False, sort_keys=True, default=str)

    def classes(self, labels: Sequence[str]) -> tuple[str, ...]:
        """The classes that whole examples have, of which shots are drawn in equal numbers; () where
        an example has none: a tagged sentence, a question, a choice.
        """
        return ()

    def class_of(self, example: Example) -> str:
        """The class of an example with a gold label; "" where `classes` has none."""
        return ""

    def head_labels(self, labels: Sequence[str], train: Iterable[Example]) -> tuple[str, ...]:
        """The head's class names: the task's `labels`, unless the format reads them off the train
        examples.
        """
        return tuple(labels)

    def labels_known(self, labels: Sequence[str]) -> bool:
        """Whether the task's `labels`, without train rows, say what the head's outputs are."""
        return True

    def chance(self, labels: Sequence[str]) -> float | None:
        """The headline score (0 to 100) expected of a guess that gives every label of a row the
        same probability; None where the format has no such number.
        """
        return None

    def needs_every_row(self, task: Task) -> bool:
        """Whether a score on a part of the task's rows means nothing."""
        return False

    def sequences(self, example: Example) -> int:
        """Number of token sequences that the encoder reads for one example."""
        return 1

    def gold_names(self, example: Example) -> list[str]:
        """The gold of an example by name, to be counted by `xtl data check`."""
        return [str(example[name]) for name in self.gold_fields if name in example]

    def length(self, example: Example) -> int:
        """Size of an example's texts in `length_unit`."""
        names = (*self.fields, *self.optional_fields)
        return sum(len(text) for name in names for text in _texts(example.get(name)))

    def parallel_texts(self, example: Example) -> list[ParallelText]:
        """The texts of an example that its translations are compared with, by what they encode."""
        names = (*self.fields, *self.optional_fields)
        texts = tuple(" ".join(_texts(example[name])) for name in names if example.get(name))[:2]
        return [ParallelText(texts, group=texts[0] if len(texts) > 1 else "")] if texts else []

    # ------------------------------------------------------------------ a person's input

    def required_fields(self, task: Task) -> tuple[str, ...]:
        """The texts that an input for this task must have."""
        return self.fields

    def from_text(self, text: str) -> dict[str, Any]:
        """Fields of an input that was given as one text."""
        return {self.fields[0]: text} if len(self.fields) == 1 else {"text": text}

    def from_list(self, values: Sequence[Any]) -> dict[str, Any] | None:
        """Fields of an input that was given as a list, or None where a list makes no input."""
        names = (*self.fields, *self.optional_fields)
        fits = 1 < len(self.fields) <= len(values) <= len(names)
        return dict(zip(names, values, strict=False)) if fits else None

    def check_input(self, example: Example) -> None:
        """DataError for an input whose fields are no texts, empty, or broken."""
        for name in (*self.fields, *self.optional_fields):
            value = example.get(name)
            if value is None:
                continue
            if name in self.list_fields and not (isinstance(value, list | tuple) and value):
                raise DataError(f"'{name}' is no list of texts")
            for text in value if name in self.list_fields else (value,):
                if not isinstance(text, str):
                    raise DataError(f"'{name}' holds no text but {type(text).__name__}")
                if has_lone_surrogate(text):  # JSON can spell it, no file can hold the answer
                    raise DataError(f"'{name}' holds half a character (a lone surrogate)")
                if not text.strip() and not self.may_be_blank(name):
                    raise DataError(f"'{name}' is empty")

    def may_be_blank(self, field: str) -> bool:
        """Whether a text of this field of an input may be empty."""
        return False

    def answer(self, prediction: Mapping[str, Any]) -> dict[str, Any]:
        """A prediction as it is shown to whoever asked for it: without gold, without an id that
        was not given.
        """
        shown = {key: value for key, value in prediction.items() if key != "gold"}
        if shown.get("id") is None:
            shown.pop("id", None)
        return shown

    # ------------------------------------------------------------------ tensors

    def encode(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        tokenizer: Tokenizer,
        lengths: Lengths,
        *,
        train: bool,
    ) -> list[Item]:
        """Items in the order of the examples; an example may give several (windows). `train` keeps
        only what teaches.
        """
        raise NotImplementedError

    def collate(self, items: Sequence[Item], tokenizer: Tokenizer, multiple: int = 1) -> Batch:
        """A padded batch of numpy arrays: input_ids, attention_mask (B, T) int64, token_type_ids
        where the tokenizer has them, and the gold that `loss` reads. T is a multiple of `multiple`.
        """
        return pad(items, tokenizer, multiple)

    def output_names(self, labels: Sequence[str]) -> tuple[str, ...]:
        """What each output of the head stands for, in order: written into the head's config."""
        return tuple(labels)

    def head(self, hidden: int, labels: Sequence[str], dropout: float) -> nn.Module:
        """A fresh head. `head(states, batch)` maps the encoder's states (B, T, hidden) to outputs.

        By default one output a name of `output_names`: of each sequence, (B, outputs), as XLM-R's
        own head; with `reads_every_token` of each token, (B, T, outputs).
        """
        from adapters_xtl.formats import _heads

        kind = _heads.TokenHead if self.reads_every_token else _heads.SequenceHead
        return kind(hidden, len(self.output_names(labels)), dropout)

    def head_shapes(self, hidden: int, outputs: int) -> dict[str, tuple[int, ...]]:
        """Name → shape of the head's tensors, `outputs` being the number of `output_names`."""
        out = {"out.weight": (outputs, hidden), "out.bias": (outputs,)}
        if self.reads_every_token:
            return out
        return {"dense.weight": (hidden, hidden), "dense.bias": (hidden,), **out}

    def head_parameters(self, hidden: int, labels: int) -> int:
        """Number of the head's parameters for so many labels."""
        outputs = len(self.output_names([str(number) for number in range(labels)]))
        return sum(math.prod(shape) for shape in self.head_shapes(hidden, outputs).values())

    def kept_by_head(self, sizes: HeadSizes) -> float:
        """Bytes a token that autograd keeps of the head and its loss for the backward pass."""
        if not self.reads_every_token:  # the states of <s> alone, before and after each step
            return 16 * sizes.hidden / sizes.length
        outputs = len(self.output_names([str(number) for number in range(sizes.labels)]))
        copied = sizes.compute != sizes.states or sizes.dropout
        token = (sizes.compute if copied else sizes.states) * sizes.hidden
        if sizes.dropout:
            token += (1 if sizes.cuda else sizes.states) * sizes.hidden
        return token + outputs * (4 + sizes.compute) + 32

    def loss(
        self, outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """The terms whose sum is the loss, each a mean over the batch's targets of that kind.

        A batch that does not fit into memory is cut into parts; its loss is then put together from
        theirs by `targets`.
        """
        raise NotImplementedError

    def targets(self, item: Item) -> dict[str, int]:
        """For each term of `loss`, how many targets of an item its mean counts."""
        return {"loss": 1}

    def outputs(self, outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> list[np.ndarray]:
        """One float32 array an item, padding cut off."""
        return list(outputs.float().cpu().numpy())

    def decode(
        self,
        examples: Sequence[Example],
        items: Sequence[Item],
        outputs: Sequence[np.ndarray],
        labels: Sequence[str],
    ) -> list[dict[str, Any]]:
        """One prediction an example, in their order, as JSON-ready values: "id", "prediction",
        "gold" (None where the example has none), and whatever else is worth keeping.
        """
        raise NotImplementedError

    def pooled(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Of a format without a head: the vectors of sequences, (B, T, hidden), (B, T) → (B,
        hidden).
        """
        raise NotImplementedError

    # ------------------------------------------------------------------ XTREME's files

    def xtreme_text(self, predictions: Sequence[Mapping[str, Any]]) -> str:
        """The content of XTREME's prediction file for one language."""
        raise NotImplementedError


def _texts(value: Any) -> list[str]:
    """The texts of a field: itself, those of a list, none of None."""
    if value is None:
        return []
    return [str(text) for text in value] if isinstance(value, list | tuple) else [str(value)]
