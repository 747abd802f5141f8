"""Extractive question answering: the answer is a span of the context, found by its first and last piece.

A long context is read in windows that overlap. Answers are cut out of the original context by character offsets, never
put together from pieces. Where an answer begins or ends inside a piece (Chinese words, "1959" in "1959년" where that is
one piece), no span of pieces is exactly the answer: training then points at the shortest span that covers it, and
`extra["exact"]` is False.
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

from adapters_xtl.formats.items import Frame, Item, Lengths, Tokenizer, chunks, cross_entropy, pad, pieces, readable

__all__ = ["LONGEST", "N_BEST", "UNANSWERABLE", "collate", "decode", "encode", "head", "outputs"]

UNANSWERABLE = "unanswerable"  # among the labels: the empty answer may be predicted
LONGEST = 30  # pieces of the longest answer that is considered
N_BEST = 20  # spans kept of each window
SHOWN = 5  # spans shown in a prediction


class _Context(NamedTuple):
    """A context's pieces: ids, and the characters [start, end) of each without blanks at its edges (empty: no text)."""

    ids: np.ndarray
    start: np.ndarray
    end: np.ndarray


@cache
def _blank() -> np.ndarray:
    """For every code point: whether it is white space, a control or a format character (zero-width and the like)."""
    return np.array([chr(code).isspace() or unicodedata.category(chr(code)) in ("Cc", "Cf") for code in range(0x110000)])


def _trimmed(text: str, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (n, 2) → starts and ends that leave out blanks at both edges; start == end where nothing is left."""
    blank = _blank()[np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)]
    count = len(text)
    after = np.where(blank, count, np.arange(count))  # the first character with ink from here on
    after = np.append(np.minimum.accumulate(after[::-1])[::-1], count).astype(np.int64)
    before = np.where(blank, 0, np.arange(1, count + 1))  # the end of the last character with ink up to here
    before = np.append(0, np.maximum.accumulate(before)).astype(np.int64)
    start = np.minimum(after[offsets[:, 0]], offsets[:, 1])
    return start.astype(np.int32), np.maximum(before[offsets[:, 1]], start).astype(np.int32)


def _contexts(tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, _Context]:
    """Each text's pieces, each text once."""
    unique = list(dict.fromkeys(texts))
    clean = [readable(text) for text in unique]
    encoded = tokenizer(
        clean, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False,
        return_offsets_mapping=True, verbose=False,
    )  # fmt: skip
    marker = tokenizer.convert_tokens_to_ids("▁")  # alone, it claims a character of the piece that follows
    found = {}
    for text, plain, numbers, spans in zip(unique, clean, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        ids = np.asarray(numbers, dtype=np.int32)
        start, end = _trimmed(plain, np.asarray(spans, dtype=np.int64).reshape(-1, 2))
        found[text] = _Context(ids, start, np.where(ids == marker, start, end) if marker is not None else end)
    return found


def _gold(context: str, parts: _Context, answers: Mapping[str, Any] | None) -> tuple[int, int, bool] | None:
    """(first piece, last piece, whether they are exactly the answer) of the first gold answer; None without one.

    "Exactly" leaves blanks at the answer's edges aside.
    """
    if not answers or not answers["text"] or not answers["text"][0]:
        return None
    text, start = answers["text"][0], answers["answer_start"][0]
    inked = [place for place, char in enumerate(text) if not _blank()[ord(char)]]
    usable = np.flatnonzero(parts.end > parts.start)
    if not inked or not len(usable):
        return None
    begin, end = start + inked[0], start + inked[-1] + 1
    starts, ends = parts.start[usable], parts.end[usable]
    opening, closing = np.flatnonzero(starts == begin), np.flatnonzero(ends == end)
    touching = np.flatnonzero((ends > begin) & (starts < end))
    if not len(touching):
        return None
    first = opening[0] if len(opening) else touching[0]
    last = closing[-1] if len(closing) else touching[-1]
    if last < first:
        return None
    exact = bool(len(opening) and len(closing)) and context[starts[first] : ends[last]] == context[begin:end]
    return int(usable[first]), int(usable[last]), exact


def encode(examples: Sequence[Mapping[str, Any]], labels: Sequence[str], tokenizer: Tokenizer, lengths: Lengths, *,
           train: bool) -> list[Item]:  # fmt: skip
    """Question and a window of the context, one item a window; neighbours share `stride` tokens (at most half a window).

    A question keeps at most half of `max_length`; what it loses is counted in `cut`. Gold positions are the sequence's
    own; a window without the whole answer points at `<s>`, position 0. `extra`: `first`, the position of the window's
    first context piece; `start` and `end`, the characters of its pieces; `exact`, only where the answer lies in it.
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
                inside = gold is not None and low <= gold[0] and gold[1] < high
                extra = {"first": before, "start": parts.start[low:high], "end": parts.end[low:high]}
                if gold is not None and inside:
                    extra["exact"] = gold[2]
                target = (before + gold[0] - low, before + gold[1] - low) if gold is not None and inside else (0, 0)
                items.append(Item(owner, (ids,), None if types is None else (types,), {"span": target}, extra,
                                  cut=len(question) - len(asked)))  # fmt: skip
    return items


def collate(items: Sequence[Item], tokenizer: Tokenizer, multiple: int = 1) -> dict[str, torch.Tensor]:
    """`spans` (B, 2): positions of the first and the last gold piece."""
    batch = pad(items, tokenizer, multiple)
    batch["spans"] = torch.tensor([item.gold["span"] for item in items])
    return batch


class _Head(nn.Module):
    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, 2)
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)

    def forward(self, states: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        out: torch.Tensor = self.out(self.dropout(states))
        return out

    def loss(self, outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        logits = outputs.float().masked_fill(batch["attention_mask"].unsqueeze(-1) == 0, -torch.inf)
        first, last = batch["spans"].unbind(1)
        return (cross_entropy(logits[..., 0], first) + cross_entropy(logits[..., 1], last)) / 2


def head(hidden: int, labels: Sequence[str], dropout: float) -> nn.Module:
    """(B, T, hidden) → (B, T, 2): logits of the first and of the last piece."""
    return _Head(hidden, dropout)


def outputs(outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> list[np.ndarray]:
    """Logits of first and last piece, (tokens, 2) an item."""
    lengths = batch["attention_mask"].sum(1).tolist()
    return [rows[:length] for rows, length in zip(outputs.float().cpu().numpy(), lengths, strict=True)]


def _best(item: Item, logits: np.ndarray) -> list[tuple[float, int, int]]:
    """(score, start, end) in characters of the N_BEST spans of one window, best first."""
    low, count = item.extra["first"], len(item.extra["start"])
    if not count:
        return []
    usable = item.extra["end"] > item.extra["start"]
    first = np.where(usable, logits[low : low + count, 0], -np.inf)
    last = np.where(usable, logits[low : low + count, 1], -np.inf)
    span = min(LONGEST, count)
    padded = np.concatenate([last, np.full(span - 1, -np.inf, dtype=last.dtype)])
    scores = (first[:, None] + sliding_window_view(padded, span)).ravel()  # row: first piece; column: pieces after it
    kept = np.argpartition(-scores, N_BEST)[:N_BEST] if len(scores) > N_BEST else np.arange(len(scores))
    kept = kept[np.isfinite(scores[kept])]
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    opening, extent = np.divmod(kept, span)
    starts, ends = item.extra["start"][opening], item.extra["end"][opening + extent]
    return [(float(score), int(start), int(end))
            for score, start, end in zip(scores[kept], starts, ends, strict=True) if end > start]  # fmt: skip


def decode(examples: Sequence[Mapping[str, Any]], items: Sequence[Item], outputs: Sequence[np.ndarray],
           labels: Sequence[str]) -> list[dict[str, Any]]:  # fmt: skip
    """{"id", "prediction": text, "start": character or None, "gold": [text, …], "score", "null_score", "n_best"}.

    A span found in two windows counts once, with its better score. `null_score` is the least, over the windows, of
    `<s>` as first and last piece; "" is predicted where it beats the best span and the labels hold UNANSWERABLE, or where
    the context has no text at all (then `score` is None).
    """
    spans: list[dict[tuple[int, int], float]] = [{} for _ in examples]
    nulls: list[float | None] = [None] * len(examples)
    for item, logits in zip(items, outputs, strict=True):
        owner = spans[item.owner]
        for score, start, end in _best(item, logits):
            owner[start, end] = max(score, owner.get((start, end), score))
        null, known = float(logits[0].sum()), nulls[item.owner]
        nulls[item.owner] = null if known is None else min(known, null)
    predictions = []
    for example, found, null_score in zip(examples, spans, nulls, strict=True):
        ranked = sorted(found.items(), key=lambda entry: (-entry[1], entry[0]))[:SHOWN]
        best = [{"text": example["context"][start:end], "start": start, "score": round(score, 4)}
                for (start, end), score in ranked]  # fmt: skip
        silent = not best or (UNANSWERABLE in labels and null_score is not None and null_score > ranked[0][1])
        predictions.append({
            "id": example.get("id"),
            "prediction": "" if silent else best[0]["text"],
            "start": None if silent else best[0]["start"],
            "gold": list((example.get("answers") or {}).get("text") or ()),
            "score": best[0]["score"] if best else None,
            "null_score": None if null_score is None else round(null_score, 4),
            "n_best": best,
        })  # fmt: skip
    return predictions
