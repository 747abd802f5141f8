"""Filters that select runs of a store: `task=xnli method=lora,full seed!=3 'score>=70'`.

A filter is a key, an operator and a value. Keys of texts take = and != with one value or several,
separated by commas, of which a run has to have one (with !=: none); a value may hold the wildcards
* and ?. Keys of numbers take < <= > >= with one number, `seed` and `bits` also = and !=. A run has
to fit every filter.
"""

from __future__ import annotations

import operator
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from adapters_xtl import methods, tasks
from adapters_xtl.backbones import BITS, registry
from adapters_xtl.base.errors import Problems, clipped, nearest
from adapters_xtl.base.numbers import parse_number
from adapters_xtl.data import PROTOCOLS
from adapters_xtl.methods import COMPOSES
from adapters_xtl.runs.records import Spec
from adapters_xtl.runs.run_index import ListedRun, RunIndex

__all__ = ["KEYS", "NONE", "RunFilter", "parse_filters", "select"]

NONE = "none"  # the value of a text that a run does not have: no parents, no method
SECONDS_A_DAY = 86400.0
_FILTER = re.compile(r"([A-Za-z_]*)\s*(!=|<=|>=|=|<|>)\s*(.*)", re.DOTALL)
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}

Texts = Callable[[Spec], Iterable[str]]
Number = Callable[[ListedRun], float | None]


def _parents(spec: Spec) -> set[str]:
    """Tasks of the parents, `self` where one of them is the module's own; `none` without any."""
    names = {parent.task for parent in spec.parents}
    own = spec.module.task if spec.module is not None else spec.task
    return (names | ({"self"} if own in names else set())) or {NONE}


# key of a text → its values for a run with that spec
_TEXTS: dict[str, Texts] = {
    "kind": lambda spec: (spec.kind,),
    "on": _parents,
    "method": lambda spec: (spec.run.method if spec.run else NONE,),
    "compose": lambda spec: ((spec.run.compose if spec.run else "") or NONE,),
    "backbone": lambda spec: (spec.backbone.name,),
    "data": lambda spec: (spec.data,),
    "protocol": lambda spec: (spec.run.protocol if spec.run else NONE,),
}
# the values that a key may have in any store
_USUAL: dict[str, Sequence[str]] = {
    "task": tasks.names(),
    "kind": ("training", "evaluation"),
    "on": (*tasks.names(), "random", "self", NONE),
    "method": (*methods.names(), NONE),
    "compose": (*COMPOSES, NONE),
    "backbone": tuple(registry.NAMED),
    "data": ("embedded", "hub", "mirror", "files", "foreign"),
    "protocol": (*PROTOCOLS, NONE),
    "state": ("finished", "partial", "damaged"),
}


def _seconds(run: ListedRun) -> float | None:
    trained = run.metrics.train if run.metrics is not None else None
    return trained.seconds if trained is not None else None


_NUMBERS: dict[str, Number] = {
    "seed": lambda run: run.spec.run.seed if run.spec and run.spec.run else None,
    "bits": lambda run: run.spec.bits if run.spec else None,
    "score": lambda run: run.metrics.score if run.metrics is not None else None,
    "seconds": _seconds,
    "bytes": lambda run: run.bytes,
    "age": lambda run: (time.time() - run.modified) / SECONDS_A_DAY,
}
EXACT = ("seed", "bits")  # numbers that are compared for being the same
KEYS = ("id", "task", *_TEXTS, "state", *_NUMBERS)


@dataclass(frozen=True)
class RunFilter:
    """One filter: `key`, `operator` and the texts or numbers behind it."""

    key: str
    operator: str
    texts: tuple[str, ...] = ()
    numbers: tuple[float, ...] = ()

    def fits(self, run: ListedRun) -> bool:
        """Whether a run fits. One whose records cannot be read fits what only they could tell."""
        if self.key in ("id", "task", "state"):
            values: Iterable[str] = (getattr(run, self.key),)
            return self._has(values)
        if run.state == "damaged" and (self.key not in ("bytes", "age")):
            return True
        if self.key in _NUMBERS:
            value = _NUMBERS[self.key](run)
            if value is None:
                return self.operator == "!="
            results = (_COMPARE[self.operator](value, number) for number in self.numbers)
            return all(results) if self.operator == "!=" else any(results)
        return run.spec is None or self._has(_TEXTS[self.key](run.spec))

    def _has(self, values: Iterable[str]) -> bool:
        patterns = [f"{text}*" if self.key == "id" else text for text in self.texts]
        fits = any(fnmatchcase(value, pattern) for value in values for pattern in patterns)
        return fits != (self.operator == "!=")


def parse_filters(texts: Sequence[str], index: RunIndex) -> list[RunFilter]:
    """The filters that the texts spell. RequestError with every key, operator and value that a run
    cannot have, each with the nearest that it can.
    """
    problems, filters = Problems(), []
    for text in texts:
        match = _FILTER.fullmatch(text)
        if match is None:
            problems.add(_no_filter(text))
            continue
        key, symbol, value = match.groups()
        if key not in KEYS:
            problems.add(f"{clipped(text)}: unknown key '{clipped(key)}'{nearest(key, KEYS)}")
        elif key in _NUMBERS:
            filters.append(_number_filter(text, key, symbol, value, problems))
        elif symbol not in ("=", "!="):
            problems.add(f"{clipped(text)}: {key} is a text, which takes = and !=")
        else:
            filters.append(_text_filter(text, key, symbol, value, index, problems))
    problems.raise_if_any()
    return filters


def _no_filter(text: str) -> str:
    """What is wrong with a text that has no operator."""
    if re.fullmatch(r"[0-9a-f]+", text):
        return f"{clipped(text)}: no filter; id={clipped(text)} is one"
    if text in KEYS:
        return f"{text}: lacks a value; {text}=VALUE, or in quotes for the shell, '{text}>VALUE'"
    return f"{clipped(text)}: no filter, which is KEY=VALUE{nearest(text, KEYS)}"


def _number_filter(text: str, key: str, symbol: str, value: str, problems: Problems) -> RunFilter:
    if symbol in ("=", "!=") and key not in EXACT:
        problems.add(f"{clipped(text)}: {key} is measured; it takes <, <=, > and >=")
    parts = value.split(",") if symbol in ("=", "!=") else [value]
    numbers = [parse_number(part.strip()) for part in parts]
    for part, number in zip(parts, numbers, strict=True):
        if number is None:
            problems.add(f"{clipped(text)}: '{clipped(part)}' is no number")
        elif key == "bits" and symbol in ("=", "!=") and number not in BITS:
            problems.add(f"{clipped(text)}: bits are {', '.join(map(str, BITS))}")
    return RunFilter(key, symbol, numbers=tuple(n for n in numbers if n is not None))


def _text_filter(
    text: str, key: str, symbol: str, value: str, index: RunIndex, problems: Problems
) -> RunFilter:
    parts = tuple(part.strip() for part in value.split(","))
    possible_values = _known(key, index)
    for part in parts:
        if not part:
            problems.add(f"{clipped(text)}: a value is empty")
        elif key == "id":
            if not re.fullmatch(r"[0-9a-f*?]+", part):
                problems.add(f"{clipped(text)}: '{clipped(part)}' begins no id (hex digits)")
        elif not any(fnmatchcase(name, part) for name in possible_values):
            problems.add(
                f"{clipped(text)}: no {key} '{clipped(part)}'{nearest(part, possible_values)}"
            )
    return RunFilter(key, symbol, texts=parts)


def _known(key: str, index: RunIndex) -> set[str]:
    """The values of a text that a run can have: the usual ones, and those in the store."""
    values = set(_USUAL.get(key, ()))
    for run in index.runs:
        if key == "task":
            values.add(run.task)
        elif run.spec is not None and key in _TEXTS:
            values.update(_TEXTS[key](run.spec))
    return values


def select(index: RunIndex, texts: Sequence[str]) -> list[ListedRun]:
    """The runs of a store that fit every filter. See `parse_filters` for what is refused."""
    filters = parse_filters(texts, index)
    return [run for run in index.runs if all(run_filter.fits(run) for run_filter in filters)]
