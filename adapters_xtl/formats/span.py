"""Extractive question answering: the answer is a span of the context, found by its first and last
piece.

A long context is read in windows that overlap. Answers are cut out of the original context by
character offsets, never put together from pieces. Often no piece begins or ends where the answer
does ("2014" where "2014," is one piece; Chinese words; particles): the span of pieces is then the
shortest that covers the answer, and beside it the head learns how many characters to leave out of
the first piece and of the last. That part reads the encoder's states without sending a gradient
back, so a module learns exactly what it would learn under the usual two outputs.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn

from adapters_xtl.formats._examples import UNANSWERABLE
from adapters_xtl.formats._items import (
    IGNORED,
    Frame,
    Item,
    Lengths,
    Tokenizer,
    chunks,
    cross_entropy,
    pad,
    pieces,
    readable,
)

__all__ = [
    "LONGEST",
    "N_BEST",
    "TRIMS",
    "characters",
    "collate",
    "decode",
    "encode",
    "head",
    "outputs",
]

LONGEST = 30  # pieces of the longest answer that is considered
N_BEST = 20  # spans kept of each window
SHOWN = 5  # spans shown in a prediction
TRIMS = 16  # 0…15 characters may be left out of a piece; XLM-R's longest has 16


class _Context(NamedTuple):
    """A context's pieces: ids, and the characters [start, end) of each (see `_trimmed`; start ==
    end: no text).
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


@cache
def _kinds() -> np.ndarray:
    """For every code point: 1 white space, 2 a control or format character (zero-width and the
    like), 0 ink.
    """
    kinds = np.zeros(0x110000, dtype=np.uint8)
    for code in (
        *range(0x20000),
        *range(0xE0000, 0xE0100),
    ):  # the planes between hold ideographs or nothing
        char = chr(code)
        kinds[code] = 1 if char.isspace() else 2 * (unicodedata.category(char) in ("Cc", "Cf"))
    return kinds


def _trimmed(text: str, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (n, 2) → starts and ends without blanks at either edge; start == end where nothing is
    left.

    Zero-width characters that close a word belong to its last piece, as they do where words are
    split at white space.
    """
    kinds = _kinds()[np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)]
    count = len(text)
    places = np.arange(count + 1)
    ink = kinds == 0
    after = _next(ink)
    before = np.append(
        0, np.maximum.accumulate(np.where(ink, places[1:], 0))
    )  # the last ink's end up to here
    start = np.minimum(after[offsets[:, 0]], offsets[:, 1])
    end = np.maximum(before[offsets[:, 1]], start)
    if (kinds == 2).any():
        beyond = _next(kinds != 2)  # where a run of zero-width characters stops
        closing = np.where(np.append(kinds, 1)[beyond] == 1, beyond, places)
        end = np.where(end > start, closing[end], end)
    return start.astype(np.int32), end.astype(np.int32)


def _next(wanted: np.ndarray) -> np.ndarray:
    """For every place, and the end: the first place from there on where `wanted` holds, else the
    end.
    """
    count = len(wanted)
    found = np.append(np.where(wanted, np.arange(count), count), count)
    nearest: np.ndarray = np.minimum.accumulate(found[::-1])[::-1]
    return nearest


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
    found = {}
    for text, plain, numbers, spans in zip(
        unique, clean, encoded["input_ids"], encoded["offset_mapping"], strict=True
    ):
        ids = np.asarray(numbers, dtype=np.int32)
        start, end = _trimmed(plain, np.asarray(spans, dtype=np.int64).reshape(-1, 2))
        found[text] = _Context(ids, start, np.where(ids == marker, start, end))
    return found


def _gold(context: str, parts: _Context, answers: Mapping[str, Any] | None) -> _Gold | None:
    """Where the first gold answer lies; None without one, and for one of blanks only."""
    text = answers["text"][0] if answers and answers["text"] else ""
    inked = next((place for place, char in enumerate(text) if not _kinds()[ord(char)]), None)
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
    exact = (starts[first] + skip, ends[last] - drop) == (begin, end)
    return _Gold(int(usable[first]), int(usable[last]), skip, drop, exact)


def encode(
    examples: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    tokenizer: Tokenizer,
    lengths: Lengths,
    *,
    train: bool,
) -> list[Item]:
    """Question and a window of the context, one item a window; neighbours share `stride` tokens (at
    most half a window).

    A question keeps at most half of `max_length`; what it loses is counted in `cut`. Gold `span`
    holds positions in the sequence, `trim` the characters left out of the first and the last piece;
    a window without the whole answer points at `<s>`, position 0. `extra`: `first`, the position of
    the window's first context piece; `start` and `end`, the characters of its pieces; `exact`, only
    where the answer lies in it: whether gold decodes to the very text (blanks at the answer's edges
    aside).
    """
    frame = Frame(tokenizer)
    whole = lengths.max_length - frame.around(True)
    items = []
    for chunk in chunks(len(examples)):
        contexts = _contexts(tokenizer, [examples[owner]["context"] for owner in chunk])
        questions = pieces(tokenizer, [examples[owner]["question"] for owner in chunk])
        for owner, question in zip(chunk, questions, strict=True):
            example = examples[owner]
            parts = contexts[example["context"]]
            gold = _gold(example["context"], parts, example.get("answers"))
            asked = question[: whole // 2]
            room = whole - len(asked)
            step = room - min(lengths.stride, room // 2)
            before = frame.before(pair=True, first=len(asked))
            for low in range(0, max(len(parts.ids) - room + step, 1), step):
                high = min(low + room, len(parts.ids))
                ids, types = frame.join(asked, parts.ids[low:high])
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
                cut = len(question) - len(asked)
                items.append(
                    Item(owner, (ids,), None if types is None else (types,), target, extra, cut)
                )
    return items


def collate(
    items: Sequence[Item], tokenizer: Tokenizer, multiple: int = 1
) -> dict[str, torch.Tensor]:
    """`spans` (B, 2): positions of the first and the last gold piece; `trims` (B, 2): characters
    left out of them.
    """
    batch = pad(items, tokenizer, multiple)
    batch["spans"] = torch.tensor([item.gold["span"] for item in items])
    batch["trims"] = torch.tensor([item.gold["trim"] for item in items])
    return batch


class _Head(nn.Module):
    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, 2)
        self.trim = nn.Linear(hidden, 2 * TRIMS)
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)
        nn.init.zeros_(self.trim.weight)  # whole pieces, until it has learnt otherwise
        nn.init.constant_(self.trim.bias, -4.0)
        with torch.no_grad():
            self.trim.bias[::TRIMS] = 0.0

    def forward(self, states: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        states = self.dropout(states)
        return torch.cat([self.out(states), self.trim(states.detach())], -1)

    def loss(self, outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        outputs, spans, trims = outputs.float(), batch["spans"], batch["trims"]
        logits = outputs[..., :2].masked_fill(
            batch["attention_mask"].unsqueeze(-1) == 0, -torch.inf
        )
        found = cross_entropy(logits[..., 0], spans[:, 0]) + cross_entropy(
            logits[..., 1], spans[:, 1]
        )
        rows = torch.arange(len(outputs), device=outputs.device)
        skip, drop = (
            outputs[rows, spans[:, 0], 2 : 2 + TRIMS],
            outputs[rows, spans[:, 1], 2 + TRIMS :],
        )
        trimmed = cross_entropy(skip, trims[:, 0]) + cross_entropy(drop, trims[:, 1])
        return (found + trimmed) / 2


def head(hidden: int, labels: Sequence[str], dropout: float) -> nn.Module:
    """(B, T, hidden) → (B, T, 2 + 2 · TRIMS): logits of the first and the last piece, then of what
    to leave out of each.
    """
    return _Head(hidden, dropout)


def outputs(outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> list[np.ndarray]:
    """(tokens, 4) an item: logits as first and as last piece, characters to leave out as first and
    as last piece.
    """
    trims = outputs[..., 2:].reshape(*outputs.shape[:2], 2, TRIMS).argmax(-1)
    rows = torch.cat([outputs[..., :2].float(), trims.float()], -1).cpu().numpy()
    lengths = batch["attention_mask"].sum(1).tolist()
    return [row[:length] for row, length in zip(rows, lengths, strict=True)]


def characters(
    item: Item, rows: np.ndarray, first: np.ndarray, last: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pieces first…last of the window → characters [start, end); what would leave nothing is not
    left out.
    """
    low = item.extra["first"]
    start, end = item.extra["start"][first], item.extra["end"][last]
    begin, stop = (
        start + rows[low + first, 2].astype(np.int32),
        end - rows[low + last, 3].astype(np.int32),
    )
    begin = np.where(begin < item.extra["end"][first], begin, start)
    stop = np.where(stop > item.extra["start"][last], stop, end)
    kept = begin < stop
    return np.where(kept, begin, start), np.where(kept, stop, end)


def _best(item: Item, rows: np.ndarray) -> list[tuple[float, int, int]]:
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
    starts, ends = characters(item, rows, opening, opening + extent)
    return [
        (float(score), int(start), int(end))
        for score, start, end in zip(scores[kept], starts, ends, strict=True)
        if end > start
    ]


def decode(
    examples: Sequence[Mapping[str, Any]],
    items: Sequence[Item],
    outputs: Sequence[np.ndarray],
    labels: Sequence[str],
) -> list[dict[str, Any]]:
    """{"id", "prediction": text, "start": character or None, "gold": [text, …], "score",
    "null_score", "n_best"}.

    A span found in two windows counts once, with its better score. `null_score` is the least, over
    the windows, of `<s>` as first and last piece; "" is predicted where it beats the best span and
    the labels hold UNANSWERABLE, or where the context has no text at all (then `score` is None).
    """
    spans: list[dict[tuple[int, int], float]] = [{} for _ in examples]
    nulls: list[float | None] = [None] * len(examples)
    for item, rows in zip(items, outputs, strict=True):
        owner = spans[item.owner]
        for score, start, end in _best(item, rows):
            owner[start, end] = max(score, owner.get((start, end), score))
        null, known = float(rows[0, 0] + rows[0, 1]), nulls[item.owner]
        nulls[item.owner] = null if known is None else min(known, null)
    predictions = []
    for example, found, null_score in zip(examples, spans, nulls, strict=True):
        ranked = sorted(found.items(), key=lambda entry: (-entry[1], entry[0]))[:SHOWN]
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
