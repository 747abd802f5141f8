"""A stranger's head config, read before its weights are: which tensors the head must have."""

from __future__ import annotations

from typing import Any

from adapters_xtl.base.untrusted import Refusal, printable

__all__ = ["HEAD_KEYS", "head_shapes"]

HEAD_KEYS = ("format", "labels", "outputs", "hidden", "dropout", "lengths")
MOST_LABELS = 20_000
LONGEST_LABEL = 200  # characters
LONGEST_STRIDE = 8192


def head_shapes(config: Any, hidden: int, longest: int) -> dict[str, tuple[int, ...]]:
    """Name → shape of a head's tensors by its config.json, on a backbone whose states are `hidden`
    wide and that reads `longest` tokens. Refusal names what is missing or malformed.
    """
    from adapters_xtl import formats

    if not isinstance(config, dict) or set(config) != set(HEAD_KEYS):
        raise Refusal(f"a head's config.json has the keys {', '.join(HEAD_KEYS)}")
    labels, lengths, name = config["labels"], config["lengths"], config["format"]
    named = isinstance(labels, list) and all(
        isinstance(label, str) and 0 < len(label) < LONGEST_LABEL for label in labels
    )
    if not named or len(labels) > MOST_LABELS or len(set(labels)) < len(labels):
        raise Refusal("its labels are no list of different names")
    if not isinstance(lengths, dict) or set(lengths) != {"max_length", "stride"}:
        raise Refusal("its lengths are malformed")
    if not _whole(lengths["max_length"], 8, longest) or not _whole(
        lengths["stride"], 0, LONGEST_STRIDE
    ):
        raise Refusal(f"its lengths are out of range (its backbone reads at most {longest} tokens)")
    if not _whole(config["hidden"], hidden, hidden):
        raise Refusal(
            f"made for hidden size {printable(config['hidden'], 20)}; its backbone has {hidden}"
        )
    dropout = config["dropout"]
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout <= 0.9:
        raise Refusal("its dropout is out of range")
    is_format = isinstance(name, str) and name in formats.names()
    if not is_format or not formats.load(name).has_head:
        raise Refusal(f"format {printable(name, 20)!r} has no head here")
    outputs = list(formats.load(name).output_names(labels))
    if config["outputs"] != outputs:
        raise Refusal(f"its outputs are not those that format '{name}' gives for its labels")
    return formats.load(name).head_shapes(hidden, len(outputs))


def _whole(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high
