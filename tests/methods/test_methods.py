"""Methods against their libraries: options, counts, and files that the libraries themselves load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_xtl import methods
from adapters_xtl.backbones import loading
from adapters_xtl.backbones.registry import NAMED, TINY_CONFIG
from adapters_xtl.backbones.shape import shape
from adapters_xtl.base.errors import RequestError
from adapters_xtl.methods import Link, ModuleSpec

IDS = torch.tensor([[0, 100, 2000, 30, 2], [0, 7, 8, 2, 1]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])


def tiny(**options: Any) -> Any:
    encoder, _ = loading.load(NAMED["tiny"], **options)
    return encoder


def spec(options: Mapping[str, Any], from_layer: int = 0, compose: str = "") -> ModuleSpec:
    return ModuleSpec(options, shape(TINY_CONFIG), from_layer, compose)


def states(encoder: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = encoder.eval()(input_ids=IDS, attention_mask=MASK).last_hidden_state
    return found


def stirred(encoder: Any) -> Any:
    """Fresh modules start as the identity: give what trains other values."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return encoder


def count(encoder: Any) -> int:
    return sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("bottleneck", {}),
        ("bottleneck", {"reduction_factor": 4}),
        ("bottleneck", {"mh_adapter": True}),
        ("bottleneck", {"reduction_factor": 64}),
        ("lora", {}),
        ("lora", {"r": 3}),
        ("lora", {"target_modules": ["query", "value"]}),
        ("lora", {"target_modules": ["dense"]}),
    ],
)
@pytest.mark.parametrize("from_layer", [0, 3])
def test_the_formula_counts_what_trains(
    method: str, options: dict[str, Any], from_layer: int
) -> None:
    module = methods.load(method)
    chosen = {**module.defaults, **options}
    recorded, problems = module.check(spec(chosen, from_layer))
    assert not problems and recorded.items() >= chosen.items()
    attached = module.attach(tiny(), [Link("alpha")], chosen, from_layer=from_layer)
    assert count(attached) == module.count(spec(chosen, from_layer))


@pytest.mark.parametrize("method", ["bottleneck", "lora"])
def test_a_fresh_module_changes_nothing_and_a_trained_one_does(method: str) -> None:
    torch.manual_seed(0)
    module = methods.load(method)
    bare = states(tiny())
    attached = module.attach(tiny(), [Link("alpha")], dict(module.defaults))
    assert torch.allclose(states(attached), bare, atol=3e-2)
    assert not torch.allclose(states(stirred(attached)), bare, atol=3e-2)


@pytest.mark.parametrize("method", ["bottleneck", "lora", "full"])
def test_save_and_load_give_the_same_states(method: str, tmp_path: Path) -> None:
    module = methods.load(method)
    options = dict(module.defaults)
    chain: list[Link] = []
    for name in ("first", "second", "third")[: 1 if method == "full" else 3]:
        attached = stirred(module.attach(tiny(), [*chain, Link(name)], options))
        expected = states(attached)
        module.save(attached, name, tmp_path / name)
        chain.append(Link(name, tmp_path / name))
        loaded = module.attach(tiny(), chain, options, train=False)
        assert torch.equal(states(loaded), expected)
        assert count(loaded) == 0
    names = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {".json", ".safetensors"}


# names that are parts of the libraries' own, or attributes of the containers that hold modules
@pytest.mark.parametrize("method", ["bottleneck", "lora"])
@pytest.mark.parametrize("name", ["a", "B", "lora", "lora_A", "query", "layer", "weight", "keys"])
def test_a_module_may_have_any_name(method: str, name: str, tmp_path: Path) -> None:
    module = methods.load(method)
    options = dict(module.defaults)
    attached = stirred(module.attach(tiny(), [Link(name)], options))
    module.save(attached, name, tmp_path / "below")
    files = {path.name: path.read_bytes() for path in (tmp_path / "below").iterdir()}
    chain = [Link(name, tmp_path / "below"), Link("other")]
    stacked = stirred(module.attach(tiny(), chain, options))
    module.save(stacked, "other", tmp_path / "other")
    chain[1] = Link("other", tmp_path / "other")
    assert torch.equal(states(module.attach(tiny(), chain, options, train=False)), states(stacked))
    alone = module.attach(tiny(), chain[:1], options, train=False)
    assert torch.equal(states(alone), states(attached))
    module.save(alone, name, tmp_path / "again")
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == files


def test_adapters_itself_loads_a_bottleneck_module(tmp_path: Path) -> None:
    import adapters

    module = methods.load("bottleneck")
    attached = stirred(module.attach(tiny(), [Link("mnli")], dict(module.defaults)))
    module.save(attached, "mnli", tmp_path)
    theirs: Any = tiny()
    adapters.init(theirs)
    name = theirs.load_adapter(str(tmp_path), set_active=True, use_safetensors=True)
    assert name == "mnli" and torch.equal(states(theirs), states(attached))


def test_peft_itself_loads_a_lora_module(tmp_path: Path) -> None:
    from peft import PeftModel

    module = methods.load("lora")
    attached = stirred(module.attach(tiny(), [Link("mnli")], dict(module.defaults)))
    module.save(attached, "mnli", tmp_path)
    assert "/" not in (
        json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] or ""
    )
    assert torch.equal(states(PeftModel.from_pretrained(tiny(), str(tmp_path))), states(attached))


@pytest.mark.parametrize("method", ["bottleneck", "lora"])
def test_only_the_child_gets_gradients(method: str, tmp_path: Path) -> None:
    module = methods.load(method)
    options = dict(module.defaults)
    module.save(
        stirred(module.attach(tiny(), [Link("alpha")], options)), "alpha", tmp_path / "alpha"
    )
    child = module.attach(tiny(), [Link("alpha", tmp_path / "alpha"), Link("beta")], options)
    child.train()
    child(input_ids=IDS, attention_mask=MASK).last_hidden_state.square().mean().backward()
    with_gradient = {
        name for name, parameter in child.named_parameters() if parameter.grad is not None
    }
    assert with_gradient and all(".beta." in name for name in with_gradient)
    assert not any(".alpha." in name for name in with_gradient)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("bottleneck", {"reduction_facter": 2}, "did you mean 'reduction_factor'"),
        ("bottleneck", {"reduction_factor": -1}, "above 0"),
        ("bottleneck", {"non_linearity": "rely"}, "did you mean 'relu'"),
        ("bottleneck", {"mh_adapter": "yes"}, "mh_adapter"),
        ("bottleneck", {"output_adapter": False}, "nothing would train"),
        ("lora", {"rank": 2}, "no such option"),
        ("lora", {"r": 1.5}, "whole number"),
        ("lora", {"r": 0}, "from 1 to"),
        ("lora", {"lora_dropout": 1.5}, "below 1"),
        ("full", {"r": 2}, "no options"),
    ],
)
def test_options_are_held_against_the_library(
    method: str, options: dict[str, Any], message: str
) -> None:
    module = methods.load(method)
    _, problems = module.check(spec({**module.defaults, **options}))
    assert len(problems) == 1 and message in problems[0]


def test_by_default_an_option_takes_what_its_default_is_one_of() -> None:
    class Scaled(methods.Method):
        name = "scaled"
        defaults: Mapping[str, Any] = {"start": 1.0, "shift": False}

    options, problems = Scaled().check(spec({"start": 2}))
    assert not problems
    assert type(options["start"]) is float, "2 and 2.0 are the same run"
    _, problems = Scaled().check(spec({"start": "x", "shift": 1, "strat": 1.0}))
    assert [
        token in problem
        for token, problem in zip(
            ("did you mean 'start'", "a number", "true or false"), problems, strict=True
        )
    ] == [True, True, True]


def test_methods_are_found_by_listing() -> None:
    assert {"bottleneck", "full", "lora"} <= set(methods.names())
    with pytest.raises(RequestError, match="did you mean 'lora'"):
        methods.load("lroa")
