"""Choosing among 2 to 26 texts that may follow a context. One item holds all sequences of an
example.

An example: {"id"?, "context", "choices": [text, …], "label"?: index of the right one}. A label of
None means that there is no gold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters_xtl.base.errors import DataError
from adapters_xtl.formats._checks import is_blank, published_group
from adapters_xtl.formats._format import Batch, Example, Fault, Format
from adapters_xtl.formats._items import (
    IGNORED,
    Item,
    Lengths,
    Tokenizer,
    chunks,
    encode_batch,
    has_lone_surrogate,
    pad,
    softmax,
)
from adapters_xtl.formats._plain_heads import MULTIPLE_CHOICE

if TYPE_CHECKING:
    import torch

__all__ = ["FORMAT", "Choice"]

FEWEST, MOST = 2, 26  # choices of an example
# so many rows that all have the first choice for gold are no chance: XTREME hides gold that way
ZEROS = 50


class Choice(Format):
    """The index of the text that fits a context best."""

    fields = ("context", "choices")
    list_fields = ("choices",)
    hub_task = "multiple-choice"
    input_help = '{"context": …, "choices": [text, …]}'
    usual_sequences = 5
    plain_heads = MULTIPLE_CHOICE
    xtreme_suffix = "tsv"

    def fault(self, example: Example, labels: Sequence[str]) -> Fault | None:
        context, choices, label = example["context"], example["choices"], example.get("label")
        if not isinstance(choices, list | tuple):
            return Fault("no choices", False)
        if not all(isinstance(text, str) for text in (context, *choices)):
            return Fault("a choice or the context is no text", False)
        if any(has_lone_surrogate(text) for text in (context, *choices)):
            return Fault("a choice or the context holds half a character (a lone surrogate)", False)
        if not FEWEST <= len(choices) <= MOST:
            return Fault(f"{len(choices)} choices", False)
        if label is None:
            return Fault("no gold label", False)
        if not isinstance(label, int) or not 0 <= label < len(choices):
            return Fault(f"label {label!r} of {len(choices)} choices", False)
        if any(is_blank(text) for text in (context, *choices)):
            return Fault("empty context or choice", True)
        return None

    def group(self, example: Example) -> str:
        return published_group(example)

    def hidden_gold(self, examples: Sequence[Example]) -> str:
        if len(examples) >= ZEROS and not any(example["label"] for example in examples):
            return "every gold label is the first choice"
        return ""

    def sequences(self, example: Example) -> int:
        return len(example["choices"])

    def check_input(self, example: Example) -> None:
        super().check_input(example)
        if not FEWEST <= len(example["choices"]) <= MOST:
            raise DataError(f"{len(example['choices'])} choices: expected {FEWEST} to {MOST}")

    def encode(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        tokenizer: Tokenizer,
        lengths: Lengths,
        *,
        train: bool,
    ) -> list[Item]:
        """One item an example: (context, choice) for each choice. What is too long loses the end of
        its context.
        """
        items = []
        for chunk in chunks(len(examples)):
            owners = [
                owner for owner in chunk if not train or examples[owner].get("label") is not None
            ]
            pairs = [
                (examples[owner]["context"], choice)
                for owner in owners
                for choice in examples[owner]["choices"]
            ]
            encoded = iter(
                encode_batch(
                    tokenizer,
                    [context for context, _ in pairs],
                    [choice for _, choice in pairs],
                    lengths.max_length,
                    "only_first",
                )
            )
            for owner in owners:
                ids, types, cuts = zip(
                    *(next(encoded) for _ in examples[owner]["choices"]), strict=True
                )
                label = examples[owner].get("label")
                gold = {"label": IGNORED if label is None else int(label)}
                items.append(
                    Item(owner, ids, None if types[0] is None else types, gold, cut=sum(cuts))
                )
        return items

    def collate(self, items: Sequence[Item], tokenizer: Tokenizer, multiple: int = 1) -> Batch:
        """`grid` (items, most choices): the row of each choice's sequence, -1 where an item has
        fewer choices. `labels` (items,): the index of the right choice, or IGNORED.
        """
        grid = np.full((len(items), max(len(item.ids) for item in items)), -1, dtype=np.int64)
        row = 0
        for number, item in enumerate(items):
            grid[number, : len(item.ids)] = np.arange(row, row + len(item.ids))
            row += len(item.ids)
        labels = np.array([item.gold["label"] for item in items], dtype=np.int64)
        return {**pad(items, tokenizer, multiple), "grid": grid, "labels": labels}

    def output_names(self, labels: Sequence[str]) -> tuple[str, ...]:
        """One score for each sequence, whichever choice it holds."""
        return ("score",)

    def loss(
        self, outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Cross-entropy over each example's own choices, of the scores (sequences, 1)."""
        from adapters_xtl.formats._heads import cross_entropy

        grid = batch["grid"]
        logits = outputs.float()[:, 0][grid.clamp(min=0)].masked_fill(grid < 0, float("-inf"))
        return {"loss": cross_entropy(logits, batch["labels"])}

    def targets(self, item: Item) -> dict[str, int]:
        return {"loss": int(item.gold["label"] != IGNORED)}

    def outputs(self, outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> list[np.ndarray]:
        """Scores, (number of choices,) an item."""
        scores = outputs.float()[:, 0].cpu().numpy()
        return [scores[rows[rows >= 0]] for rows in batch["grid"].cpu().numpy()]

    def decode(
        self,
        examples: Sequence[Example],
        items: Sequence[Item],
        outputs: Sequence[np.ndarray],
        labels: Sequence[str],
    ) -> list[dict[str, Any]]:
        """{"id", "prediction": index, "gold": index or None, "probabilities": [share, …]}."""
        return [
            {
                "id": examples[item.owner].get("id"),
                "prediction": int(scores.argmax()),
                "gold": examples[item.owner].get("label"),
                "probabilities": [round(float(share), 6) for share in softmax(scores)],
            }
            for item, scores in zip(items, outputs, strict=True)
        ]

    def xtreme_text(self, predictions: Sequence[Mapping[str, Any]]) -> str:
        """One index a line, in the rows' order."""
        return "".join(f"{row['prediction']}\n" for row in predictions)


FORMAT = Choice()
