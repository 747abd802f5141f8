"""The options of an engine, as `--engine-set key=value` gives them, read into its dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from adapters_xtl.base.errors import Problems, clipped, nearest
from adapters_xtl.base.numbers import parse_whole

__all__ = ["read_options"]

T = TypeVar("T")


def read_options(kind: type[T], engine: str, values: Mapping[str, str]) -> T:
    """The options of type `kind`, a dataclass of texts, whole numbers and defaults.

    RequestError with every option that the engine has not, with the nearest name, or that is no
    number where one is needed.
    """
    problems = Problems()
    options = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
    read: dict[str, Any] = {}
    for key, text in values.items():
        if key not in options:
            hint = nearest(key, options) if options else "; it has none"
            problems.add(f"--engine-set: {engine} has no option '{clipped(key)}'{hint}")
            continue
        default = options[key].default
        assert default is not MISSING
        read[key] = text
        if isinstance(default, int):
            number = parse_whole(text)
            if number is None or number < 0:
                problems.add(f"--engine-set {key}={clipped(text)}: takes a whole number from 0 on")
            read[key] = number
    problems.raise_if_any()
    return kind(**read)
