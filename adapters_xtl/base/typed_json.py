"""JSON values become dataclasses and dataclasses become JSON values, checked by their annotations.

A record that is written to disk or sent to others is one frozen dataclass. Its annotations are the
only description of its form: `from_json` refuses what does not fit them, by the path of the key.

Fields may be annotated with bool, int, float, str, Any, `Literal`, `X | None`, `float | str` and
other unions of these scalars, `tuple[X, ...]`, `tuple[X, Y]`, `Mapping[str, X]`, another dataclass,
or `Annotated[X, Rule(...)]`. A field's metadata may hold "low" and "high" (bounds of a number),
"choices" (of a text), and "omit": a field with `omit=True` is not written where it has its default.
Fields with a default may be absent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from adapters_xtl.base.untrusted import Refusal, printable

__all__ = ["Rule", "from_json", "to_json"]

T = TypeVar("T")
_SHOWN = 60  # characters of a refused value that a message repeats


@dataclass(frozen=True)
class Rule:
    """What a value has to be besides its type, in `Annotated[X, Rule(...)]`."""

    accepts: Callable[[Any], bool]
    expected: str  # e.g. "64 hex digits", for messages


def from_json(kind: type[T], value: object) -> T:
    """The instance of the dataclass `kind` that a parsed JSON value describes.

    Refusal names the first key that is missing, unknown or of the wrong form. A key that `kind`
    does not know is refused because a newer version may mean something by it.
    """
    record: T = _build(kind, value, "")
    return record


def to_json(record: object) -> Any:
    """The JSON value of a dataclass, with the keys in the order of its fields."""
    if is_dataclass(record) and not isinstance(record, type):
        return {
            item.name: to_json(getattr(record, item.name))
            for item in fields(record)
            if not (item.metadata.get("omit") and getattr(record, item.name) == _default(item))
        }
    if isinstance(record, Mapping):
        return {name: to_json(value) for name, value in record.items()}
    if isinstance(record, (tuple, list)):
        return [to_json(value) for value in record]
    return record


def _default(item: Field[Any]) -> Any:
    return item.default if item.default_factory is MISSING else item.default_factory()


def _refuse(path: str, value: object, expected: str) -> Refusal:
    shown = printable(json.dumps(value, ensure_ascii=False, default=str), _SHOWN)
    where = f"the key '{printable(path)}' is {shown}" if path else f"it is {shown}"
    return Refusal(f"{where}; expected {expected}")


def _below(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


@cache
def _annotations(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _build(kind: Any, value: Any, path: str) -> Any:
    """`value` as the type `kind`; `path`: the keys that lead to it, for messages."""
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _build_dataclass(kind, value, path)
    if kind in _SCALARS:
        return _build_scalar(kind, value, path)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        built = _build(arguments[0], value, path)
        for rule in arguments[1:]:
            if isinstance(rule, Rule) and not rule.accepts(built):
                raise _refuse(path, value, rule.expected)
        return built
    if origin is Literal:
        for choice in arguments:
            if type(choice) is type(value) and choice == value:
                return value
        raise _refuse(path, value, " or ".join(map(repr, arguments)))
    if origin in (Union, UnionType):
        if value is None and NoneType in arguments:
            return None
        kinds = [argument for argument in arguments if argument is not NoneType]
        return _build(kinds[0] if len(kinds) == 1 else _kind_of(kinds, value, path), value, path)
    if origin is tuple:
        return _build_tuple(arguments, value, path)
    if origin is Mapping:
        if not isinstance(value, dict):
            raise _refuse(path, value, "an object")
        return {
            _build(arguments[0], name, _below(path, name)): _build(
                arguments[1], inner, _below(path, name)
            )
            for name, inner in value.items()
        }
    raise TypeError(f"{path}: a record cannot hold a {kind}")


def _kind_of(kinds: Sequence[type], value: Any, path: str) -> type:
    """Which of several scalar types a value is to be built as."""
    for kind in kinds:
        if type(value) is kind or (kind is float and type(value) is int):
            return kind
    raise _refuse(path, value, " or ".join(_SCALARS[kind] for kind in kinds))


def _build_dataclass(kind: Any, value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        raise _refuse(path, value, "an object")
    annotations = _annotations(kind)
    items = {item.name: item for item in fields(kind)}
    for name in value:
        if name not in items:
            key = printable(_below(path, name))
            raise Refusal(
                f"unknown key '{key}'; a newer version of adapters_xtl may have written it"
            )
    arguments: dict[str, Any] = {}
    for name, item in items.items():
        key = _below(path, name)
        if name in value:
            arguments[name] = _build(annotations[name], value[name], key)
            _check_bounds(item, arguments[name], key)
        elif item.default is MISSING and item.default_factory is MISSING:
            raise Refusal(f"lacks the key '{key}'")
    return kind(**arguments)


def _check_bounds(item: Field[Any], value: Any, path: str) -> None:
    low, high = item.metadata.get("low"), item.metadata.get("high")
    choices = item.metadata.get("choices")
    if low is not None and not low <= value <= high:
        raise _refuse(path, value, f"a number from {low:g} to {high:g}")
    if choices is not None and value not in choices:
        raise _refuse(path, value, f"one of {', '.join(choices)}")


def _build_tuple(arguments: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _refuse(path, value, "a list")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(
            _build(arguments[0], inner, _below(path, number)) for number, inner in enumerate(value)
        )
    if len(value) != len(arguments):
        raise _refuse(path, value, f"a list of {len(arguments)}")
    return tuple(
        _build(argument, inner, _below(path, number))
        for number, (argument, inner) in enumerate(zip(arguments, value, strict=True))
    )


_SCALARS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    NoneType: "null",
}
_LARGEST = 2.0**1000  # of a whole number that stands where a float is expected


def _build_scalar(kind: type, value: Any, path: str) -> Any:
    if kind is float and type(value) is int and abs(value) < _LARGEST:
        return float(value)
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        raise _refuse(path, value, _SCALARS[kind])
    return value
