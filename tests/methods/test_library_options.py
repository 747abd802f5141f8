"""The tables of options against the installed libraries: each of theirs is taken, or refused by name
with a reason; a new version that has another one is seen here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
from adapters import BnConfig
from peft import LoraConfig
from transformers.activations import ACT2FN

from adapters_xtl import methods
from adapters_xtl.backbones.registry import TINY_CONFIG
from adapters_xtl.backbones.shape import shape
from adapters_xtl.methods import ModuleSpec, _bottleneck_options, _lora_options

BOTTLENECK = BnConfig(**methods.load("bottleneck").defaults)
TABLES: dict[str, tuple[Any, Any]] = {
    "lora": (_lora_options, LoraConfig()),
    "bottleneck": (_bottleneck_options, BOTTLENECK),
}
# a value other than the default, by the default's type
OTHER: Mapping[type, Any] = {int: 3, float: 0.5, list: [1], dict: {"a": 1}}


def problems(method: str, **options: Any) -> list[str]:
    return methods.load(method).check(ModuleSpec(options, shape(TINY_CONFIG)))[1]


@pytest.mark.parametrize("method", TABLES)
def test_every_option_of_the_library_is_taken_or_refused_with_a_reason(method: str) -> None:
    table, config = TABLES[method]
    fields = {field.name for field in dataclasses.fields(config)}
    taken, refused = set(table._PARSERS), set(table._REFUSED)
    assert fields - taken - refused == set(), "the library has options that are not known here"
    assert taken - fields == set(), "the library lacks options that are taken here"
    assert not taken & refused
    for option in sorted(refused & fields):
        default = getattr(config, option)
        value = not default if isinstance(default, bool) else OTHER.get(type(default), "x")
        (line,) = problems(method, **{option: value})
        assert line.startswith(f"method.{option}=") and table._REFUSED[option] in line


@pytest.mark.parametrize("method", TABLES)
def test_the_defaults_are_the_librarys(method: str) -> None:
    """An option at its default is left out of a run's identity, so it has to be that default."""
    table, config = TABLES[method]
    fields = {field.name for field in dataclasses.fields(config)}
    defaults = {
        name: table._LIBRARY_DEFAULTS[name] for name in fields & set(table._LIBRARY_DEFAULTS)
    }
    assert defaults == {name: getattr(config, name) for name in defaults}
    assert set(table._PARSERS) - set(defaults) <= {*methods.load(method).defaults, "lora_alpha"}


def test_every_activation_of_the_library_is_taken_or_refused_with_a_reason() -> None:
    for name in ACT2FN:
        lines = problems("bottleneck", non_linearity=name)
        if name in _bottleneck_options.TRAINED_ACTIVATIONS:
            assert len(lines) == 1 and "weights" in lines[0]
            assert list(ACT2FN[name].parameters()), "it has none: it can be taken"
        else:
            assert lines == []
            made = ACT2FN[name]
            assert not list(getattr(made, "parameters", list)()), "its weights would be lost"
    (line,) = problems("bottleneck", non_linearity="rleu")
    assert "did you mean 'relu'" in line
