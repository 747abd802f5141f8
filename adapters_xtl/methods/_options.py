"""Checks of method options by hand-written tables, so that a wrong one costs no library's import.

An option is read by a parser: it returns the value as it is recorded (8.0 → 8 where a whole number
is wanted) or raises ValueError with what it takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from adapters_xtl.base.errors import nearest

__all__ = ["Parser", "flag", "number", "one_of", "read_options", "whole"]

Parser = Callable[[Any], Any]
SHOWN = 60  # characters of a wrong value that a message repeats


def whole(low: int, high: int) -> Parser:
    """Reads a whole number from `low` to `high`; 8.0 is 8."""

    def parse(value: Any) -> int:
        if _is_number(value) and value == math.floor(value) and low <= value <= high:
            return int(value)
        raise ValueError(f"takes a whole number from {low} to {high}")

    return parse


def number(low: float, high: float, *, above: bool = False, below: bool = False) -> Parser:
    """Reads a finite number from `low` (`above`: greater than it) to `high` (`below`: less than
    it).
    """
    first = f"above {low:g}" if above else f"from {low:g}"
    last = f"below {high:g}" if below else f"{high:g}"

    def parse(value: Any) -> float:
        fits = _is_number(value) and low <= value <= high
        if fits and not (above and value == low) and not (below and value == high):
            checked: float = value
            return checked
        raise ValueError(f"takes a number {first} to {last}")

    return parse


def flag(value: Any) -> bool:
    """Reads true or false."""
    if isinstance(value, bool):
        return value
    raise ValueError("takes true or false")


def one_of(*choices: Any) -> Parser:
    """Reads one of the choices."""

    def parse(value: Any) -> Any:
        for choice in choices:
            if type(value) is type(choice) and value == choice:
                return choice
        texts = [choice for choice in choices if isinstance(choice, str)]
        hint = nearest(value, texts) if isinstance(value, str) else ""
        if "did you mean" in hint:
            raise ValueError(f"unknown{hint}")
        raise ValueError(f"takes {', '.join(str(choice).lower() for choice in choices)}")

    return parse


def read_options(
    requested: Mapping[str, Any],
    parsers: Mapping[str, Parser],
    refused: Mapping[str, str],
    defaults: Mapping[str, Any],
    owner: str,
    recorded: Collection[str] = (),
) -> tuple[dict[str, Any], list[str]]:
    """(options as they are recorded, what is wrong with them, one line each).

    parsers   option → its parser
    refused   option → why it cannot be set; its value in `defaults` is taken and left out
    defaults  option → what the library takes where nothing is said; such a value is left out, so
              that saying a default gives the same run as not saying it
    owner     what the options belong to, for messages
    recorded  options that are recorded even at their default
    """
    options: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in requested.items():
        shown = repr(value) if len(repr(value)) <= SHOWN else f"{repr(value)[:SHOWN]}…"
        if name in refused:
            if name not in defaults or _differ(value, defaults[name]):
                problems.append(f"method.{name}={shown}: {refused[name]}")
        elif name not in parsers:
            option_names = [*parsers, *refused]
            problems.append(
                f"method.{name}: {owner} has no such option{nearest(name, option_names)}"
            )
        else:
            try:
                read = parsers[name](value)
            except ValueError as error:
                problems.append(f"method.{name}={shown}: {error}")
                continue
            if name in recorded or name not in defaults or _differ(read, defaults[name]):
                options[name] = read
    return options, problems


def _differ(value: Any, default: Any) -> bool:
    return type(value) is not type(default) or value != default


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) < 1e300  # an int of 400 digits is no float
        and math.isfinite(value)
    )
