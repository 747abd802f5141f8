"""A saved module's tensors held against its description, before any of its weights are loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from adapters_xtl.backbones.shape import shape
from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.untrusted import Refusal, Tensor, printable
from adapters_xtl.methods._method import Method, ModuleSpec, TensorShapes

__all__ = ["check_tensors", "expected_tensors"]


def expected_tensors(
    method: Method,
    description: Any,
    backbone: Mapping[str, Any],
    held: Mapping[str, Tensor],
    *,
    options: Mapping[str, Any],
    from_layer: int,
    compose: str,
) -> TensorShapes | int:
    """Name → shape of the tensors that a saved module must have, or their number of elements where
    the method tells no more.

    description   its JSON description, which may be a stranger's
    backbone      config.json of the backbone
    held          the tensors of its file
    options, from_layer, compose   what its record says

    Refusal names what is wrong with the description.
    """
    if not isinstance(description, dict):
        raise Refusal("its description is no JSON object")
    try:
        sizes = shape(backbone, "its backbone")
        wanted = method.tensor_shapes(description, backbone, held, compose == "fuse")
        if wanted is not None:
            return wanted
        spec = ModuleSpec(options, sizes, from_layer, compose)
        if problems := method.check(spec)[1]:
            raise Refusal(problems[0])
        return method.count(spec)
    except RequestError as error:
        raise Refusal(str(error)) from error


def check_tensors(held: Mapping[str, Tensor], expected: TensorShapes | int) -> None:
    """Refusal unless a file's tensors are the ones expected."""
    if isinstance(expected, int):
        elements = sum(math.prod(tensor.shape) for tensor in held.values())
        if elements != expected:
            raise Refusal(f"holds {elements:,} numbers; its options call for {expected:,}")
        return
    _check_shapes(held, expected)


def _check_shapes(held: Mapping[str, Tensor], wanted: TensorShapes) -> None:
    """Refusal names the first tensor that is missing, too much, or of another shape."""
    missing = sorted(set(wanted) - set(held))
    if missing:
        raise Refusal(
            f"lacks {len(missing)} of its {len(wanted)} tensors, e.g. {printable(missing[0])}"
        )
    for name in sorted(set(held) - set(wanted)):
        raise Refusal(f"holds tensor {printable(name)}, which its description does not call for")
    for name, shape_wanted in wanted.items():
        if held[name].shape != shape_wanted:
            raise Refusal(
                f"tensor {name} has shape {list(held[name].shape)}; its backbone and description"
                f" give {list(shape_wanted)}"
            )
