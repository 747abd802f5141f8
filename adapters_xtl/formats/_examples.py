"""What `example(row)` returns in each format, and what makes an example unfit.

classify  {"id"?, "text", "pair"?: text, "label"?: name of the class}
choice    {"id"?, "context", "choices": [text, …] (2 to 26), "label"?: index of the right one}
span      {"id", "question", "context", "answers": {"text": [text, …], "answer_start": [code point,
          …]}}
tag       {"id"?, "words": [text, …], "tags"?: [name, …]}
retrieve  Tatoeba: {"source", "target"}; BUCC: {"part", "id", "sentence"} or {"part": "gold",
          "source_id", "target_id"}

A label or tags of None mean "no gold", and so do no answers, unless the task's labels hold
UNANSWERABLE: then an empty list of answers is the gold. An example without an id gets "#<row
number>".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["FAULTS", "UNANSWERABLE", "Fault", "fault"]

UNANSWERABLE = "unanswerable"  # the label of span tasks in which a question may have no answer

Example = Mapping[str, Any]
_SURROGATE = re.compile("[\ud800-\udfff]")


class Fault(NamedTuple):
    """Why an example is unfit. `scorable`: it can still be predicted and scored, so evaluation
    keeps it.
    """

    reason: str
    scorable: bool


def _blank(text: Any) -> bool:
    """True for "", white space, and text made of zero-width or control characters only."""
    return not any(
        not char.isspace() and unicodedata.category(char) not in ("Cf", "Cc") for char in text
    )


def _broken(*texts: str) -> bool:
    """Lone surrogates, which JSON can spell but no file can hold."""
    return any(_SURROGATE.search(text) for text in texts)


def _text(example: Example, *names: str) -> Fault | None:
    for name in names:
        value = example.get(name)
        if not isinstance(value, str):
            return Fault(f"no {name}" if value is None else f"{name} is no text", False)
        if _broken(value):
            return Fault(f"{name} holds half a character (a lone surrogate)", False)
        if _blank(value):
            return Fault(f"empty {name}", True)
    return None


def _classify(example: Example, labels: Sequence[str]) -> Fault | None:
    if example.get("label") is None:
        return Fault("no gold label", False)
    if labels and example["label"] not in labels:
        return Fault(f"unknown label {example['label']!r}", False)
    return _text(example, "text", *(("pair",) if "pair" in example else ()))


def _choice(example: Example, labels: Sequence[str]) -> Fault | None:
    choices, label = example["choices"], example.get("label")
    if not isinstance(choices, (list, tuple)):
        return Fault("no choices", False)
    if any(not isinstance(choice, str) for choice in choices) or not isinstance(
        example["context"], str
    ):
        return Fault("a choice or the context is no text", False)
    if _broken(example["context"], *choices):
        return Fault("a choice or the context holds half a character (a lone surrogate)", False)
    if not 2 <= len(choices) <= 26:
        return Fault(f"{len(choices)} choices", False)
    if label is None:
        return Fault("no gold label", False)
    if not isinstance(label, int) or not 0 <= label < len(choices):
        return Fault(f"label {label!r} of {len(choices)} choices", False)
    if _blank(example["context"]) or any(_blank(choice) for choice in choices):
        return Fault("empty context or choice", True)
    return None


def _span(example: Example, labels: Sequence[str]) -> Fault | None:
    problem = _text(example, "context", "question")
    if problem and not problem.scorable:
        return problem
    answers = example.get("answers")
    if (
        not isinstance(answers, Mapping)
        or answers.get("text") is None
        or answers.get("answer_start") is None
    ):
        return Fault("no answers", False)
    texts, starts = answers["text"], answers["answer_start"]
    if not isinstance(texts, (list, tuple)) or not isinstance(starts, (list, tuple)):
        return Fault("no answers", False)
    if not texts and UNANSWERABLE not in labels:
        return Fault("no gold answer", False)
    if len(texts) != len(starts):
        return Fault(f"{len(texts)} answer texts for {len(starts)} offsets", False)
    if None in texts or None in starts:
        return Fault("an answer is null", False)
    if any(not isinstance(text, str) for text in texts) or any(
        not isinstance(start, int) for start in starts
    ):
        return Fault("an answer is no text with an offset", False)
    if _broken(*texts):
        return Fault("an answer holds half a character (a lone surrogate)", False)
    if problem:
        return problem
    for text, start in zip(texts, starts, strict=True):
        if not text:
            return Fault("empty answer text", True)
        if start < 0 or example["context"][start : start + len(text)] != text:
            if text in example["context"]:
                return Fault("answer does not occur at its offset, but elsewhere", True)
            composed = unicodedata.normalize("NFC", text) in unicodedata.normalize(
                "NFC", example["context"]
            )
            return Fault(
                "answer does not occur in the context"
                + (" (it does after NFC)" if composed else ""),
                True,
            )
    return None


def _tag(example: Example, labels: Sequence[str]) -> Fault | None:
    words, tags = example["words"], example.get("tags")
    if not words or not isinstance(words, (list, tuple)):
        return Fault("no words", False)
    if any(not isinstance(word, str) for word in words):
        return Fault("a word is null" if None in words else "a word is no text", False)
    if _broken(*words):
        return Fault("a word holds half a character (a lone surrogate)", False)
    if not isinstance(tags, (list, tuple)) or None in tags:
        return Fault("no gold tags", False)
    if len(words) != len(tags):
        return Fault(f"{len(words)} words but {len(tags)} tags", False)
    unknown = next((tag for tag in tags if labels and tag not in labels), None)
    return Fault(f"unknown tag {unknown!r}", False) if unknown is not None else None


def _retrieve(example: Example, labels: Sequence[str]) -> Fault | None:
    if example.get("part") == "gold":
        names: tuple[str, ...] = ("source_id", "target_id")
    else:
        names = ("id", "sentence") if "part" in example else ("source", "target")
    return _text(example, *names)


FAULTS: Mapping[str, Callable[[Example, Sequence[str]], Fault | None]] = {
    "classify": _classify,
    "choice": _choice,
    "span": _span,
    "tag": _tag,
    "retrieve": _retrieve,
}


def fault(format: str, example: Example, labels: Sequence[str]) -> Fault | None:
    """The first thing wrong with an example, or None. `labels` empty: any label is known."""
    return FAULTS[format](example, labels)
