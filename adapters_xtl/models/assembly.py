"""Builds the model of a planned module: its backbone, its stack of modules and its heads.

A trained module is loaded only on what it was trained on (`runs.lineage`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from adapters_xtl import formats, methods, tasks
from adapters_xtl.backbones import registry
from adapters_xtl.data.splits import CheckedSplit
from adapters_xtl.formats import Lengths
from adapters_xtl.methods import Link
from adapters_xtl.models.context import Context
from adapters_xtl.models.encoded_files import EncodedFiles
from adapters_xtl.models.encoded_rows import EncodedRows
from adapters_xtl.models.heads import HeadSpec, head_spec, head_specs, load_heads
from adapters_xtl.models.network import (
    EncoderSpec,
    Model,
    StackSpec,
    build,
)
from adapters_xtl.models.prefix import Prefix
from adapters_xtl.runs.hyper import FIXED
from adapters_xtl.runs.lineage import check_lineage, stored_module
from adapters_xtl.runs.request import Module
from adapters_xtl.runs.settings import Speed
from adapters_xtl.runs.store import Store

__all__ = [
    "encoded_rows",
    "fresh_model",
    "links",
    "prefix_of",
    "summed_model",
    "trained_model",
]


def links(module: Module, store: Store, *, trained: bool) -> list[Link]:
    """Links of a module's stack. `trained`: the module itself is loaded from its run too."""
    names: list[str] = []

    def unique(name: str) -> str:
        names.append(name)
        return name if names.count(name) == 1 else f"{name}_{names.count(name)}"

    def saved(trained_module: Module) -> Path:
        return stored_module(trained_module, store).module_folder

    below = [Link(unique(parent.task), saved(parent)) for parent in module.below]
    start = saved(module.parents[-1]) if module.run.compose == "init" and module.parents else None
    return [
        *below,
        Link(unique(module.task), saved(module) if trained else None, None if trained else start),
    ]


def fresh_model(context: Context, module: Module, train_rows: Mapping[str, CheckedSplit]) -> Model:
    """The model that a module's training starts from. `train_rows`: task → rows it trains on.

    Its heads are fresh; those of a training that goes on from the English one are that one's.

    MismatchError when a parent is not what it was trained to be.
    """
    for parent in module.parents:
        _check_lineage(context, parent)
    hyper = module.run.hyper
    hidden = int(registry.config(context.plan.backbone)["hidden_size"])
    lengths = Lengths(hyper.max_length, min(hyper.stride, hyper.max_length // 2))
    heads = {
        name: head_spec(
            tasks.load(name).format,
            formats.load(tasks.load(name).format).head_labels(
                tasks.load(name).labels, part.examples
            ),
            hidden,
            hyper.dropout,
            lengths,
        )
        for name, part in train_rows.items()
    }
    model = _model(context, module, heads, train=True)
    model.encoded_rows = encoded_rows(context, module.settings.speed)
    if hyper.after_english:
        load_heads(model.heads, stored_module(module.parents[-1], context.store).heads_folder)
    return model


def encoded_rows(context: Context, speed: Speed) -> EncodedRows:
    """Where the rows of a run are kept once they are encoded, as its settings say."""
    rows = context.host.encoded_rows if speed.tokenize_once else EncodedRows(0)
    rows.files = EncodedFiles(context.notify) if speed.keep_tokenized else None
    return rows


def summed_model(context: Context, module: Module, name: str) -> Model:
    """The model on which the parents of a sum stand and, under `name`, their sum beside them.

    MismatchError when a parent is not what it was trained to be.
    """
    for parent in module.parents:
        _check_lineage(context, parent)
    parts = [
        Link(f"part_{number}", stored_module(parent, context.store).module_folder)
        for number, parent in enumerate(module.parents, start=1)
    ]
    run = module.run
    encoder = EncoderSpec(
        context.plan.backbone, run.method, run.bits, run.dtype, context.plan.device
    )
    stack = StackSpec(parts, run.options, run.from_layer, run.compose)
    model = build(encoder, stack, {}, train=False, host=context.host)
    methods.load(run.method).add_up(model.encoder, [part.name for part in parts], name)
    return model


def trained_model(context: Context, module: Module | None, head: Module | None = None) -> Model:
    """The model of a finished run with all its heads, or the bare backbone, ready to predict.

    `head`: the parent whose heads it gets instead of its own.
    """
    if module is None:
        plan = context.plan
        encoder = EncoderSpec(
            plan.backbone, plan.request.method, plan.bits, plan.dtype, plan.device
        )
        return build(encoder, StackSpec(), {}, train=False, host=context.host)
    _check_lineage(context, module)
    heads = stored_module(head or module, context.store).heads_folder
    model = _model(context, module, head_specs(heads), train=False)
    load_heads(model.heads, heads)
    return model.eval()


def _check_lineage(context: Context, module: Module) -> None:
    plan = context.plan
    check_lineage(
        module,
        context.store,
        plan.backbone.fingerprint,
        allow=plan.request.allow_mismatch,
        notify=context.notify,
    )


def _model(
    context: Context, module: Module, heads: Mapping[str, HeadSpec], *, train: bool
) -> Model:
    plan, run, fit = context.plan, module.run, context.plan.fits.get(module.id)
    encoder = EncoderSpec(
        plan.backbone,
        run.method,
        run.bits,
        run.dtype,
        plan.device,
        offload=fit is not None and fit.way.offload,
    )
    stack = StackSpec(
        links(module, context.store, trained=not train), run.options, run.from_layer, run.compose
    )
    model = build(encoder, stack, heads, train=train, seed=run.seed, host=context.host)
    if fit is not None:
        model.room = fit.evaluation_tokens
    return model


def prefix_of(context: Context, module: Module, model: Model) -> Prefix | None:
    """What computes and keeps the states below the module, where its run has them fixed."""
    run, plan = module.run, context.plan
    if run.hyper.prefix != FIXED:
        return None
    return Prefix(
        model.encoder,
        run.from_layer,
        fingerprint=plan.backbone.fingerprint,
        weights=context.host.digests,
        parents=[
            stored_module(parent, context.store).module_sha256
            for parent in module.below
            if parent.run.from_layer < run.from_layer
        ],
        bits=run.bits,
        dtype=run.dtype,
        device=plan.device,
        notify=context.notify,
    )
