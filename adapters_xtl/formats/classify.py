"""Classification of one text or a pair of texts.

An example: {"id"?, "text", "pair"?: text, "label"?: name of the class}. A label of None means that
there is no gold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters_xtl.formats._checks import label_fault, published_group, text_fault
from adapters_xtl.formats._format import Batch, Example, Fault, Format
from adapters_xtl.formats._items import (
    IGNORED,
    Item,
    Lengths,
    Tokenizer,
    pad,
    softmax,
    text_items,
)
from adapters_xtl.formats._plain_heads import SEQUENCE_CLASSIFICATION
from adapters_xtl.formats._rows import example_without_values

if TYPE_CHECKING:
    import torch

    from adapters_xtl.tasks import Task

__all__ = ["FORMAT", "Classify"]


class Classify(Format):
    """One label for a text or a pair of texts."""

    optional_fields = ("pair",)
    hub_task = "text-classification"
    input_help = '{"text": …, "pair": …} (pair for tasks on two texts)'
    usual_labels = 3
    plain_heads = SEQUENCE_CLASSIFICATION
    xtreme_suffix = "tsv"

    def fault(self, example: Example, labels: Sequence[str]) -> Fault | None:
        texts = ("text", "pair") if "pair" in example else ("text",)
        return label_fault(example, labels) or text_fault(example, *texts)

    def chance(self, labels: Sequence[str]) -> float | None:
        return 100 / len(labels) if labels else None

    def group(self, example: Example) -> str:
        return published_group(example)

    def classes(self, labels: Sequence[str]) -> tuple[str, ...]:
        return tuple(labels)

    def class_of(self, example: Example) -> str:
        return str(example["label"])

    def required_fields(self, task: Task) -> tuple[str, ...]:
        """The pair too, where the task's own examples have one."""
        return ("text", "pair") if "pair" in example_without_values(task) else ("text",)

    def from_list(self, values: Sequence[Any]) -> dict[str, Any] | None:
        return {"text": values[0], "pair": values[1]} if len(values) == 2 else None

    def encode(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        tokenizer: Tokenizer,
        lengths: Lengths,
        *,
        train: bool,
    ) -> list[Item]:
        """One item an example; a pair that is too long loses tokens from its longer side, counted
        in `cut`.
        """
        index: dict[Any, int] = {label: number for number, label in enumerate(labels)}
        items = text_items(
            tokenizer,
            lengths,
            [example["text"] for example in examples],
            [example.get("pair") for example in examples],
            [{"label": index.get(example.get("label"), IGNORED)} for example in examples],
        )
        return [item for item in items if not train or item.gold["label"] != IGNORED]

    def collate(self, items: Sequence[Item], tokenizer: Tokenizer, multiple: int = 1) -> Batch:
        """`labels` (B,): the number of each item's class, or IGNORED."""
        labels = np.array([item.gold["label"] for item in items], dtype=np.int64)
        return {**pad(items, tokenizer, multiple), "labels": labels}

    def loss(
        self, outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Cross-entropy of the logits (B, number of labels)."""
        from adapters_xtl.formats._heads import cross_entropy

        return {"loss": cross_entropy(outputs, batch["labels"])}

    def targets(self, item: Item) -> dict[str, int]:
        return {"loss": int(item.gold["label"] != IGNORED)}

    def decode(
        self,
        examples: Sequence[Example],
        items: Sequence[Item],
        outputs: Sequence[np.ndarray],
        labels: Sequence[str],
    ) -> list[dict[str, Any]]:
        """{"id", "prediction": name, "gold": name or None, "probabilities": {name: share}}."""
        predictions = []
        for item, logits in zip(items, outputs, strict=True):
            example = examples[item.owner]
            shares = softmax(logits)
            predictions.append(
                {
                    "id": example.get("id"),
                    "prediction": labels[int(logits.argmax())],
                    "gold": example.get("label"),
                    "probabilities": {
                        label: round(float(share), 6)
                        for label, share in zip(labels, shares, strict=True)
                    },
                }
            )
        return predictions

    def xtreme_text(self, predictions: Sequence[Mapping[str, Any]]) -> str:
        """One label a line, in the rows' order."""
        return "".join(f"{row['prediction']}\n" for row in predictions)


FORMAT = Classify()
