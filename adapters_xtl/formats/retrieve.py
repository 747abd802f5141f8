"""Sentence retrieval: texts become vectors, the mean of their tokens' hidden states. Nothing is
trained.

An example is a pair, {"source", "target"}, whose row is to be found (Tatoeba); or a sentence of one
side, {"part": "source" or "target", "id", "sentence"}, beside the gold pairs, {"part": "gold",
"source_id", "target_id"}, that are to be mined (BUCC); or a person's {"text"}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from adapters_xtl.base.errors import RunError
from adapters_xtl.base.extras import need
from adapters_xtl.formats._checks import published_group, text_fault
from adapters_xtl.formats._format import Example, Fault, Format, ParallelText
from adapters_xtl.formats._items import Item, Lengths, Tokenizer, encode_batch

if TYPE_CHECKING:
    import torch
    from torch import nn

    from adapters_xtl.tasks import Task

__all__ = ["FORMAT", "Retrieve"]

SIDES = ("source", "target")


class _Side(NamedTuple):
    """The sentences of one side in the rows' order; `vectors` is (sentences, hidden) float32."""

    ids: list[Any]
    texts: list[str]
    vectors: np.ndarray


class Retrieve(Format):
    """The row, or the pairs, that are translations of each other."""

    gold_fields = ()
    hub_task = "sentence-similarity"
    has_head = False
    item_noun = "sentences"
    pooling = "mean"
    scoring_packages = ("faiss",)
    xtreme_suffix = "tsv"

    def fault(self, example: Example, labels: Sequence[str]) -> Fault | None:
        if example.get("part") == "gold":
            return text_fault(example, "source_id", "target_id")
        return text_fault(example, *(("id", "sentence") if "part" in example else SIDES))

    def identity(self, example: Example) -> tuple[Any, ...]:
        side = example.get("part")
        return (side, example["id"]) if side in SIDES else ()

    def group(self, example: Example) -> str:
        return published_group(example)

    def needs_every_row(self, task: Task) -> bool:
        """Pairs are mined from whole sides."""
        return any(rows.parts for group in task.report.values() for rows in group)

    def length(self, example: Example) -> int:
        return sum(len(text) for _, text in _sentences(example))

    def parallel_texts(self, example: Example) -> list[ParallelText]:
        """Both sentences of a pair, whose item is the English one; sentences without their
        translation are none.
        """
        if not all(side in example for side in SIDES):
            return []
        english = example["target"]
        return [
            ParallelText((example["source"],), item=english),
            ParallelText((english,), "en", english),
        ]

    def encode(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        tokenizer: Tokenizer,
        lengths: Lengths,
        *,
        train: bool,
    ) -> list[Item]:
        """One item a sentence; `extra["side"]` is "source" or "target". Gold pairs give no item."""
        sentences = [
            (owner, side, text)
            for owner, example in enumerate(examples)
            for side, text in _sentences(example)
        ]
        encoded = encode_batch(
            tokenizer, [text for _, _, text in sentences], None, lengths.max_length
        )
        return [
            Item(owner, (ids,), None if types is None else (types,), extra={"side": side}, cut=cut)
            for (owner, side, _), (ids, types, cut) in zip(sentences, encoded, strict=True)
        ]

    def output_names(self, labels: Sequence[str]) -> tuple[str, ...]:
        return ()

    def head(self, hidden: int, labels: Sequence[str], dropout: float) -> nn.Module:
        """No parameters: the encoder's states pass as they are."""
        from adapters_xtl.formats._heads import UnchangedStates

        return UnchangedStates()

    def head_shapes(self, hidden: int, outputs: int) -> dict[str, tuple[int, ...]]:
        return {}

    def loss(
        self, outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        raise RunError("retrieval trains nothing: it has no loss")

    def outputs(self, outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> list[np.ndarray]:
        """Mean-pooled hidden states, (hidden,) an item."""
        return list(self.pooled(outputs, batch["attention_mask"]).cpu().numpy())

    def pooled(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The mean of each sequence's hidden states, float32."""
        from adapters_xtl.formats._heads import mean_pool

        return mean_pool(states, mask)

    def decode(
        self,
        examples: Sequence[Example],
        items: Sequence[Item],
        outputs: Sequence[np.ndarray],
        labels: Sequence[str],
    ) -> list[dict[str, Any]]:
        """Of pairs, for each row in order: {"id", "prediction": number of the source row nearest to
        its target sentence, "gold": its own number, "target": the sentence}, numbers as text.

        Of sides, for each candidate pair {"source_id", "target_id", "score": its margin, "gold":
        whether it is right}, and for each gold pair that is no candidate the same without a score.
        """
        need("finding the nearest sentences", *self.scoring_packages)
        source, target = (_side(examples, items, outputs, side) for side in SIDES)
        if any("part" in example for example in examples):
            return _mined(examples, source, target)
        from adapters_xtl.formats._mining import nearest_rows

        nearest = nearest_rows(target.vectors, source.vectors)
        return [
            {
                "id": example.get("id"),
                "prediction": str(int(row)),
                "gold": str(number),
                "target": example["target"],
            }
            for number, (example, row) in enumerate(zip(examples, nearest, strict=True))
        ]

    def xtreme_text(self, predictions: Sequence[Mapping[str, Any]]) -> str:
        """Of sides: the candidate pairs at and above the threshold that the score was tuned to.

        Of pairs: the predicted source rows, one a line, in the order of XTREME's English file: its
        lines are sorted by their stripped text, by code points, equal ones in the rows' order.
        """
        if any("source_id" in row for row in predictions):
            from adapters_xtl.metrics import bucc

            pairs = bucc.accepted_pairs(predictions)
            return "".join(f"{pair}\n" for pair in pairs)
        ordered = sorted(predictions, key=lambda row: str(row["target"]).strip())
        return "".join(f"{row['prediction']}\n" for row in ordered)


def _sentences(example: Example) -> list[tuple[str, str]]:
    """(side, text) of what is embedded."""
    if "text" in example:
        return [("source", example["text"])]
    if "part" not in example:
        return [(side, example[side]) for side in SIDES]
    return [(example["part"], example["sentence"])] if example["part"] in SIDES else []


def _side(
    examples: Sequence[Example],
    items: Sequence[Item],
    vectors: Sequence[np.ndarray],
    side: str,
) -> _Side:
    rows = [number for number, item in enumerate(items) if item.extra["side"] == side]
    owners = [examples[items[row].owner] for row in rows]
    width = len(vectors[0]) if len(vectors) else 0
    stacked = np.array([vectors[row] for row in rows], dtype=np.float32).reshape(len(rows), width)
    return _Side(
        [owner.get("id") for owner in owners],
        [dict(_sentences(owner))[side] for owner in owners],
        stacked,
    )


def _mined(examples: Sequence[Example], source: _Side, target: _Side) -> list[dict[str, Any]]:
    from adapters_xtl.formats._mining import mine_bitext
    from adapters_xtl.metrics import bucc

    mined = mine_bitext(source.texts, target.texts, source.vectors, target.vectors)
    scored = bucc.candidates(mined, source.texts, target.texts, source.ids, target.ids)
    gold = {
        f"{example['source_id']}\t{example['target_id']}"
        for example in examples
        if example.get("part") == "gold"
    }
    candidates = [
        {**_ids(pair), "score": float(score), "gold": pair in gold}
        for pair, score in scored.items()
    ]
    missed = sorted(gold - set(scored))
    return candidates + [{**_ids(pair), "gold": True} for pair in missed]


def _ids(pair: str) -> dict[str, Any]:
    source, target = pair.split("\t")
    return {"source_id": source, "target_id": target}


FORMAT = Retrieve()
