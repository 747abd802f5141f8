"""Checks of an example's texts that several formats make."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import Any

from adapters_xtl.formats._format import Example, Fault
from adapters_xtl.formats._items import has_lone_surrogate

__all__ = ["UNANSWERABLE", "is_blank", "label_fault", "published_group", "text_fault"]

UNANSWERABLE = "unanswerable"  # the label of span tasks in which a question may have no answer


def is_blank(text: str) -> bool:
    """True for "", white space, and text made of zero-width or control characters only."""
    return not any(
        not char.isspace() and unicodedata.category(char) not in ("Cf", "Cc") for char in text
    )


def text_fault(example: Example, *fields: str) -> Fault | None:
    """The first field that is missing, no text, broken, or blank."""
    for field in fields:
        value: Any = example.get(field)
        if not isinstance(value, str):
            return Fault(f"no {field}" if value is None else f"{field} is no text", False)
        if has_lone_surrogate(value):
            return Fault(f"{field} holds half a character (a lone surrogate)", False)
        if is_blank(value):
            return Fault(f"empty {field}", True)
    return None


def label_fault(example: Example, labels: Sequence[str]) -> Fault | None:
    """A label that is missing or, where `labels` are known, none of them."""
    if example.get("label") is None:
        return Fault("no gold label", False)
    if labels and example["label"] not in labels:
        return Fault(f"unknown label {example['label']!r}", False)
    return None


# In this order, whatever the format has of them: the select slices of the published tasks were cut
# by a hash of exactly this list, and the same request shall go on giving the same rows.
_GROUPED_BY = ("text", "pair", "context", "choices", "words", "source", "sentence")


def published_group(example: Example) -> str:
    """The text by whose hash a published task's rows fall into the select slice."""
    return json.dumps([example.get(name) for name in _GROUPED_BY], ensure_ascii=False)
