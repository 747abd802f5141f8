"""A parent that exists already, held against the request that names it."""

from __future__ import annotations

from collections.abc import Sequence

from adapters_xtl.backbones import Backbone
from adapters_xtl.base.errors import Problems
from adapters_xtl.methods import APART
from adapters_xtl.runs.request import Module, Request

__all__ = ["check_parent"]


def check_parent(
    name: str,
    parent: Module,
    below: Sequence[Module],
    request: Request,
    compose: str,
    backbone: Backbone,
    problems: Problems,
) -> None:
    """Adds to `problems` why the parent that `--on` calls `name` cannot stand where it is named.
    `below`: the parents named before it, on which it must have been trained.
    """
    if below and [module.id for module in parent.parents] != [module.id for module in below]:
        problems.add(f"--on {name}: it was not trained on {below[-1]}, the one named before it")
    if compose in APART and parent.parents:
        problems.add(
            f"--on {name}: --compose {compose} takes parents that were trained on the bare"
            f" backbone, and this one was trained on {parent.parents[-1]}"
        )
    if parent.run.compose == "fuse":
        problems.add(
            f"--on {name}: a fused module cannot be a parent; stack on one of its own parents"
            " instead"
        )
    if parent.run.method != request.method:
        problems.add(
            f"--on {name}: its method is {parent.run.method}, but this request's is"
            f" {request.method}"
        )
    fingerprint = backbone.fingerprint
    if fingerprint and parent.run.backbone != fingerprint and not request.allow_mismatch:
        problems.add(
            f"--on {name}: trained on a backbone with fingerprint {parent.run.backbone[:12]},"
            f" but {backbone.name} has {fingerprint[:12]} (--allow-mismatch to insist)"
        )
