"""A planned module → its model: links, heads and backbone put together, saved ones held to their
lineage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from adapters_xtl import tasks
from adapters_xtl.backbones import registry
from adapters_xtl.data.reading import labels_of
from adapters_xtl.data.splits import CheckedSplit
from adapters_xtl.formats._items import Lengths
from adapters_xtl.methods import Link
from adapters_xtl.models.network import HeadSpec, Host, Model, build, head_specs, load_heads
from adapters_xtl.runs.request import Module, Plan
from adapters_xtl.runs.store import Store
from adapters_xtl.sharing import lineage

__all__ = ["fresh_model", "links", "trained_model"]

Notify = Callable[[str], None]


def links(module: Module, store: Store, *, trained: bool) -> list[Link]:
    """Links of a module's stack. `trained`: the module itself is loaded from its run too."""
    names: list[str] = []

    def unique(name: str) -> str:
        names.append(name)
        return name if names.count(name) == 1 else f"{name}_{names.count(name)}"

    def saved(of: Module) -> Path:
        return lineage.saved(of, store) / "module"

    found = [Link(unique(parent.task), saved(parent)) for parent in module.below]
    start = saved(module.parents[-1]) if module.run.compose == "init" and module.parents else None
    return [
        *found,
        Link(unique(module.task), saved(module) if trained else None, None if trained else start),
    ]


def fresh_model(
    plan: Plan,
    module: Module,
    train: Mapping[str, CheckedSplit],
    store: Store,
    host: Host,
    notify: Notify,
) -> Model:
    """The model that a module's training starts from, with a fresh head for each task of `train`
    (task → its train rows, from which a task without fixed labels takes them).

    MismatchError when a parent is not what it was trained to be.
    """
    for parent in module.parents:
        lineage.check(
            parent,
            store,
            plan.backbone.fingerprint,
            allow=plan.request.allow_mismatch,
            notify=notify,
        )
    hyper, hidden = module.run.hyper, int(registry.config(plan.backbone)["hidden_size"])
    lengths = Lengths(hyper.max_length, min(hyper.stride, hyper.max_length // 2))
    heads = {
        name: HeadSpec(
            tasks.load(name).format,
            labels_of(tasks.load(name), part.examples),
            hidden,
            hyper.dropout,
            lengths,
        )
        for name, part in train.items()
    }
    return _model(plan, module, heads, store, host, train=True)


def trained_model(
    plan: Plan, module: Module | None, store: Store, host: Host, notify: Notify
) -> Model:
    """The model of a finished run with all its heads, or the bare backbone, ready to predict."""
    if module is None:
        return build(
            plan.backbone,
            bits=plan.bits,
            dtype=plan.dtype,
            device=plan.device,
            method=plan.request.method,
            chain=(),
            options={},
            from_layer=0,
            heads={},
            train=False,
            seed=0,
            host=host,
        )
    lineage.check(
        module, store, plan.backbone.fingerprint, allow=plan.request.allow_mismatch, notify=notify
    )
    path = lineage.saved(module, store)
    model = _model(plan, module, head_specs(path / "head"), store, host, train=False)
    load_heads(model, path / "head")
    return model.eval()


def _model(
    plan: Plan,
    module: Module,
    heads: Mapping[str, HeadSpec],
    store: Store,
    host: Host,
    *,
    train: bool,
) -> Model:
    run, fit = module.run, plan.fits.get(module.id)
    model = build(
        plan.backbone,
        bits=run.bits,
        dtype=run.dtype,
        device=plan.device,
        method=run.method,
        chain=links(module, store, trained=not train),
        options=run.options,
        from_layer=run.from_layer,
        heads=heads,
        train=train,
        seed=run.seed,
        fuse=run.compose == "fuse",
        host=host,
        offload=fit is not None and fit.way.offload,
    )
    if fit is not None:
        model.room = fit.evaluation_tokens
    return model
