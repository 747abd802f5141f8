"""A trained module must stand on what it was trained on: the same backbone, the same parents.

A run records the fingerprint of its backbone and the digest of every parent's weights. On anything
else the module would still give numbers, but not its own, so that is refused.
"""

from __future__ import annotations

from collections.abc import Callable

from adapters_xtl.base.errors import MismatchError
from adapters_xtl.runs.request import Module
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored_runs import StoredModule, read_run_module

__all__ = ["check_lineage", "stored_module"]


def stored_module(module: Module, store: Store) -> StoredModule:
    """The trained module that a planned one stands for: the one that was named, or the store's."""
    return module.stored or read_run_module(store.path(module.task, module.id))


def check_lineage(
    module: Module, store: Store, fingerprint: str, *, allow: bool, notify: Callable[[str], None]
) -> None:
    """Compares a trained module and every parent below it with what their runs recorded.

    `fingerprint`: of the backbone that they are about to be loaded on. MismatchError names both
    digests of everything that differs; with `allow` that is said by `notify` instead. Files that
    differ from their own manifest are an error in any case.
    """
    stored = stored_module(module, store)
    stored.verify()
    problems = []
    if stored.run.backbone != fingerprint:
        problems.append(
            f"{stored.path}: trained on a backbone with fingerprint {stored.run.backbone[:12]}, but"
            f" this one has {fingerprint[:12]}"
        )
    for recorded, parent in zip(stored.parents, module.parents, strict=True):
        below = stored_module(parent, store)
        if recorded.sha256 != below.module_sha256:
            problems.append(
                f"{stored.path}: trained on {recorded.task} weights {recorded.sha256[:12]}, but"
                f" {below.path} holds {below.module_sha256[:12]}"
            )
    if problems and not allow:
        raise MismatchError("\n".join([*problems, "--allow-mismatch loads it all the same"]))
    for problem in problems:
        notify(f"{problem} (allowed)")
    for parent in module.parents:
        check_lineage(parent, store, fingerprint, allow=allow, notify=notify)
