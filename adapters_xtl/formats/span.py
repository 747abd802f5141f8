"""Extractive question answering: the answer is a span of the context, found by its first and last
piece.

An example: {"id", "question", "context", "answers": {"text": [text, …], "answer_start": [code
point, …]}}. No answers mean that there is no gold, unless the task's labels hold UNANSWERABLE: then
an empty list of answers is the gold.

A long context is read in windows that overlap. Answers are cut out of the original context by
character offsets, never put together from pieces. Often no piece begins or ends where the answer
does ("2014" where "2014," is one piece; Chinese words; particles): the span of pieces is then the
shortest that covers the answer, and beside it the head learns how many characters to leave out of
the first piece and of the last. That part reads the encoder's states without sending a gradient
back, so a module learns exactly what it would learn under the usual two outputs.

Combining marks belong to the character before them: a span never begins or ends between the two,
wherever the tokenizer's pieces do.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from adapters_xtl.formats import _characters
from adapters_xtl.formats._checks import UNANSWERABLE, text_fault
from adapters_xtl.formats._format import (
    Batch,
    Example,
    Fault,
    Format,
    HeadSizes,
    ParallelText,
)
from adapters_xtl.formats._items import (
    IGNORED,
    Frame,
    Item,
    Lengths,
    Tokenizer,
    chunks,
    has_lone_surrogate,
    pad,
    pieces,
    readable,
)
from adapters_xtl.formats._plain_heads import QUESTION_ANSWERING

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["FORMAT", "LONGEST", "N_BEST", "TRIMS", "UNANSWERABLE", "Span", "characters"]

LONGEST = 30  # pieces of the longest answer that is considered
N_BEST = 20  # spans kept of each window
SHOWN = 5  # spans shown in a prediction
TRIMS = 16  # 0…15 characters may be left out of a piece; XLM-R's longest has 16


class _Context(NamedTuple):
    """A context's pieces: ids, and the characters [start, end) of each (see
    `_characters.trimmed`; start == end: no text).
    """

    ids: np.ndarray
    start: np.ndarray
    end: np.ndarray


class _Gold(NamedTuple):
    """First and last piece of an answer, characters to leave out of each, and whether that is
    exactly the answer.
    """

    first: int
    last: int
    skip: int
    drop: int
    exact: bool


def _contexts(tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, _Context]:
    """Each text's pieces, each text once."""
    unique = list(dict.fromkeys(texts))
    clean = [readable(text) for text in unique]
    encoded = tokenizer(
        clean,
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        return_offsets_mapping=True,
        verbose=False,
    )
    marker = tokenizer.convert_tokens_to_ids(
        "▁"
    )  # alone, it claims a character of the piece that follows
    marker = -1 if marker in (None, tokenizer.unk_token_id) else marker
    contexts = {}
    for text, plain, numbers, spans in zip(
        unique, clean, encoded["input_ids"], encoded["offset_mapping"], strict=True
    ):
        ids = np.asarray(numbers, dtype=np.int32)
        start, end = _characters.trimmed(plain, np.asarray(spans, dtype=np.int64).reshape(-1, 2))
        contexts[text] = _Context(ids, start, np.where(ids == marker, start, end))
    return contexts


def _gold(context: str, parts: _Context, answers: Mapping[str, Any] | None) -> _Gold | None:
    """Where the first gold answer lies; None without one, and for one of blanks only."""
    text = answers["text"][0] if answers and answers["text"] else ""
    inked = _characters.ink_at(text)
    if answers is None or inked is None:
        return None
    begin, end = answers["answer_start"][0] + inked, answers["answer_start"][0] + len(text.rstrip())
    usable = np.flatnonzero((parts.end > parts.start) & (parts.end > begin) & (parts.start < end))
    if not len(usable):
        return None
    starts, ends = parts.start[usable], parts.end[usable]
    opening, closing = np.flatnonzero(starts == begin), np.flatnonzero(ends == end)
    first = int(opening[0]) if len(opening) else 0
    last = max(int(closing[-1]) if len(closing) else len(usable) - 1, first)
    skip = min(max(begin - int(starts[first]), 0), TRIMS - 1)
    drop = min(max(int(ends[last]) - end, 0), TRIMS - 1)
    edges = _whole_characters(
        _characters.after_marks(context), starts[first] + skip, ends[last] - drop
    )
    exact = (int(edges[0]), int(edges[1])) == (begin, end)
    return _Gold(int(usable[first]), int(usable[last]), skip, drop, exact)


def _whole_characters(
    beyond: np.ndarray | None, begin: np.ndarray, stop: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The edges moved behind the marks that they would part from their character. `beyond`: see
    `_characters.after_marks`.
    """
    return (begin, stop) if beyond is None else (beyond[begin], beyond[stop])


def characters(
    item: Item,
    rows: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    beyond: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Pieces first…last of the window → characters [start, end); what would leave nothing is not
    left out. `beyond`: `_characters.after_marks` of the context.
    """
    low = item.extra["first"]
    start, end = item.extra["start"][first], item.extra["end"][last]
    skip, drop = rows[low + first, 2].astype(np.int32), rows[low + last, 3].astype(np.int32)
    # what leaves out the whole piece leaves out nothing
    begin = np.where(start + skip < item.extra["end"][first], start + skip, start)
    stop = np.where(end - drop > item.extra["start"][last], end - drop, end)
    begin, stop = _whole_characters(beyond, begin, stop)
    kept = begin < stop
    return np.where(kept, begin, start), np.where(kept, stop, end)


def _best(item: Item, rows: np.ndarray, beyond: np.ndarray | None) -> list[tuple[float, int, int]]:
    """(score, start, end) in characters of the N_BEST spans of one window, best first."""
    low, count = item.extra["first"], len(item.extra["start"])
    if not count:
        return []
    usable = item.extra["end"] > item.extra["start"]
    first = np.where(usable, rows[low : low + count, 0], -np.inf)
    last = np.where(usable, rows[low : low + count, 1], -np.inf)
    span = min(LONGEST, count)
    padded = np.concatenate([last, np.full(span - 1, -np.inf, dtype=last.dtype)])
    scores = (
        first[:, None] + sliding_window_view(padded, span)
    ).ravel()  # row: first piece; column: pieces after it
    kept = (
        np.argpartition(-scores, N_BEST)[:N_BEST]
        if len(scores) > N_BEST
        else np.arange(len(scores))
    )
    kept = kept[np.isfinite(scores[kept])]
    opening, extent = np.divmod(kept, span)
    starts, ends = characters(item, rows, opening, opening + extent, beyond)
    return [
        (float(score), int(start), int(end))
        for score, start, end in zip(scores[kept], starts, ends, strict=True)
        if end > start
    ]


class Span(Format):
    """An answer that stands in the context, or none."""

    fields = ("question", "context")
    gold_fields = ("answers",)
    hub_task = "question-answering"
    input_help = '{"question": …, "context": …}'
    reads_every_token = True
    reads_windows = True
    plain_heads = QUESTION_ANSWERING
    xtreme_suffix = "json"

    def fault(self, example: Example, labels: Sequence[str]) -> Fault | None:
        problem = text_fault(example, "context", "question")
        if problem and not problem.scorable:
            return problem
        return _answers_fault(example, labels) or problem or _offsets_fault(example)

    def identity(self, example: Example) -> tuple[Any, ...]:
        """Scores are kept by question id."""
        return ("", example["id"])

    def keeps_duplicate(self, example: Example, first: Example) -> bool:
        """Another question whose name is taken is kept."""
        return example != first

    def group(self, example: Example) -> str:
        """Questions on one passage never part."""
        return str(example["context"])

    def parallel_texts(self, example: Example) -> list[ParallelText]:
        """The question; questions on one paragraph belong together."""
        return [ParallelText((example["question"],), group=example["context"])]

    def gold_names(self, example: Example) -> list[str]:
        return ["answered" if example["answers"]["text"] else UNANSWERABLE]

    def answer(self, prediction: Mapping[str, Any]) -> dict[str, Any]:
        """With `end`, the code point behind the answer."""
        start = prediction["start"]
        end = None if start is None else start + len(prediction["prediction"])
        return {**super().answer(prediction), "end": end}

    def encode(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        tokenizer: Tokenizer,
        lengths: Lengths,
        *,
        train: bool,
    ) -> list[Item]:
        """Question and a window of the context, one item a window; neighbours share `stride` tokens
        (at most half a window).

        A question keeps at most half of `max_length`; what it loses is counted in `cut`. Gold
        `span` holds positions in the sequence, `trim` the characters left out of the first and the
        last piece; a window without the whole answer points at `<s>`, position 0. `extra`: `first`,
        the position of the window's first context piece; `start` and `end`, the characters of its
        pieces; `exact`, only where the answer lies in it: whether gold decodes to the very text
        (blanks at the answer's edges aside).
        """
        frame = Frame(tokenizer)
        longest = lengths.max_length - frame.around(True)
        items = []
        for chunk in chunks(len(examples)):
            contexts = _contexts(tokenizer, [examples[owner]["context"] for owner in chunk])
            questions = pieces(tokenizer, [examples[owner]["question"] for owner in chunk])
            for owner, question in zip(chunk, questions, strict=True):
                example = examples[owner]
                parts = contexts[example["context"]]
                gold = _gold(example["context"], parts, example.get("answers"))
                kept_question = question[: longest // 2]
                room = longest - len(kept_question)
                step = room - min(lengths.stride, room // 2)
                before = frame.before(pair=True, first=len(kept_question))
                for low in range(0, max(len(parts.ids) - room + step, 1), step):
                    high = min(low + room, len(parts.ids))
                    ids, types = frame.join(kept_question, parts.ids[low:high])
                    extra = {
                        "first": before,
                        "start": parts.start[low:high],
                        "end": parts.end[low:high],
                    }
                    target = {"span": (0, 0), "trim": (IGNORED, IGNORED)}
                    if gold is not None and low <= gold.first and gold.last < high:
                        target = {
                            "span": (before + gold.first - low, before + gold.last - low),
                            "trim": (gold.skip, gold.drop),
                        }
                        extra["exact"] = gold.exact
                    cut = len(question) - len(kept_question)
                    items.append(
                        Item(owner, (ids,), None if types is None else (types,), target, extra, cut)
                    )
        return items

    def collate(self, items: Sequence[Item], tokenizer: Tokenizer, multiple: int = 1) -> Batch:
        """`spans` (B, 2): positions of the first and the last gold piece; `trims` (B, 2):
        characters left out of them, or IGNORED.
        """
        return {
            **pad(items, tokenizer, multiple),
            "spans": np.array([item.gold["span"] for item in items], dtype=np.int64),
            "trims": np.array([item.gold["trim"] for item in items], dtype=np.int64),
        }

    def output_names(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Of each token: its logits as an answer's first and last piece, then the logits of leaving
        out 0…15 characters at its start, and at its end.
        """
        trims = [f"leave_out_{n}_at_{edge}" for edge in ("start", "end") for n in range(TRIMS)]
        return ("first_piece", "last_piece", *trims)

    def head(self, hidden: int, labels: Sequence[str], dropout: float) -> nn.Module:
        from adapters_xtl.formats._heads import SpanHead

        return SpanHead(hidden, TRIMS, dropout)

    def head_shapes(self, hidden: int, outputs: int) -> dict[str, tuple[int, ...]]:
        return {
            "out.weight": (2, hidden),
            "out.bias": (2,),
            "trim.weight": (outputs - 2, hidden),
            "trim.bias": (outputs - 2,),
        }

    def kept_by_head(self, sizes: HeadSizes) -> float:
        """The trims read a copy of the states of their own."""
        return super().kept_by_head(sizes) + sizes.compute * sizes.hidden

    def loss(
        self, outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Half the cross-entropies of the outputs (B, T, 2 + 2 · TRIMS): `span`, of the first and
        the last piece among the tokens; `trim`, of the characters left out of the gold ones.
        """
        import torch

        from adapters_xtl.formats._heads import cross_entropy

        outputs, spans, trims = outputs.float(), batch["spans"], batch["trims"]
        padding = batch["attention_mask"].unsqueeze(-1) == 0
        logits = outputs[..., :2].masked_fill(padding, float("-inf"))
        first = cross_entropy(logits[..., 0], spans[:, 0])
        span = first + cross_entropy(logits[..., 1], spans[:, 1])
        rows = torch.arange(len(outputs), device=outputs.device)
        skip = outputs[rows, spans[:, 0], 2 : 2 + TRIMS]
        drop = outputs[rows, spans[:, 1], 2 + TRIMS :]
        trim = cross_entropy(skip, trims[:, 0]) + cross_entropy(drop, trims[:, 1])
        return {"span": span / 2, "trim": trim / 2}

    def targets(self, item: Item) -> dict[str, int]:
        return {"span": 1, "trim": int(IGNORED not in item.gold["trim"])}

    def outputs(self, outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> list[np.ndarray]:
        """(tokens, 4) an item: logits as first and as last piece, characters to leave out as first
        and as last piece.
        """
        import torch

        trims = outputs[..., 2:].reshape(*outputs.shape[:2], 2, TRIMS).argmax(-1)
        rows = torch.cat([outputs[..., :2].float(), trims.float()], -1).cpu().numpy()
        lengths = batch["attention_mask"].sum(1).tolist()
        return [row[:length] for row, length in zip(rows, lengths, strict=True)]

    def decode(
        self,
        examples: Sequence[Example],
        items: Sequence[Item],
        outputs: Sequence[np.ndarray],
        labels: Sequence[str],
    ) -> list[dict[str, Any]]:
        """{"id", "prediction": text, "start": character or None, "gold": [text, …], "score",
        "null_score", "n_best"}.

        A span found in two windows counts once, with its better score. `null_score` is the least,
        over the windows, of `<s>` as first and last piece; "" is predicted where it beats the best
        span and the labels hold UNANSWERABLE, or where the context has no text at all (then `score`
        is None).
        """
        spans: list[dict[tuple[int, int], float]] = [{} for _ in examples]
        nulls: list[float | None] = [None] * len(examples)
        beyond: dict[int, np.ndarray | None] = {}
        for item, rows in zip(items, outputs, strict=True):
            owner = spans[item.owner]
            if item.owner not in beyond:  # the windows of an example follow one another
                beyond = {item.owner: _characters.after_marks(examples[item.owner]["context"])}
            for score, start, end in _best(item, rows, beyond[item.owner]):
                owner[start, end] = max(score, owner.get((start, end), score))
            null, lowest = float(rows[0, 0] + rows[0, 1]), nulls[item.owner]
            nulls[item.owner] = null if lowest is None else min(lowest, null)
        predictions = []
        for example, span_scores, null_score in zip(examples, spans, nulls, strict=True):
            ranked = sorted(span_scores.items(), key=lambda entry: (-entry[1], entry[0]))[:SHOWN]
            best = [
                {"text": example["context"][start:end], "start": start, "score": round(score, 4)}
                for (start, end), score in ranked
            ]
            silent = not best or (
                UNANSWERABLE in labels and null_score is not None and null_score > ranked[0][1]
            )
            predictions.append(
                {
                    "id": example.get("id"),
                    "prediction": "" if silent else best[0]["text"],
                    "start": None if silent else best[0]["start"],
                    "gold": list((example.get("answers") or {}).get("text") or ()),
                    "score": best[0]["score"] if best else None,
                    "null_score": None if null_score is None else round(null_score, 4),
                    "n_best": best,
                }
            )
        return predictions

    def xtreme_text(self, predictions: Sequence[Mapping[str, Any]]) -> str:
        """A JSON object, question id → answer."""
        answers = {row["id"]: row["prediction"] for row in predictions}
        return json.dumps(answers, ensure_ascii=False, indent=1) + "\n"


def _answers_fault(example: Example, labels: Sequence[str]) -> Fault | None:
    """What is wrong with the shape of the gold answers, so that nothing can be scored by them."""
    answers = example.get("answers")
    table: Mapping[str, Any] = answers if isinstance(answers, Mapping) else {}
    texts, starts = table.get("text"), table.get("answer_start")
    if not isinstance(texts, list | tuple) or not isinstance(starts, list | tuple):
        return Fault("no answers", False)
    if not texts and UNANSWERABLE not in labels:
        return Fault("no gold answer", False)
    if len(texts) != len(starts):
        return Fault(f"{len(texts)} answer texts for {len(starts)} offsets", False)
    if None in texts or None in starts:
        return Fault("an answer is null", False)
    if not all(isinstance(text, str) for text in texts) or not all(
        isinstance(start, int) for start in starts
    ):
        return Fault("an answer is no text with an offset", False)
    if any(has_lone_surrogate(text) for text in texts):
        return Fault("an answer holds half a character (a lone surrogate)", False)
    return None


def _offsets_fault(example: Example) -> Fault | None:
    """Gold answers that do not stand in the context where their offsets say."""
    context, answers = example["context"], example["answers"]
    for text, start in zip(answers["text"], answers["answer_start"], strict=True):
        if not text:
            return Fault("empty answer text", True)
        if start < 0 or context[start : start + len(text)] != text:
            if text in context:
                return Fault("answer does not occur at its offset, but elsewhere", True)
            composed = unicodedata.normalize("NFC", text) in unicodedata.normalize("NFC", context)
            hint = " (it does after NFC)" if composed else ""
            return Fault(f"answer does not occur in the context{hint}", True)
    return None


FORMAT = Span()
