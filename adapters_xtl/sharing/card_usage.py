"""The part of a model card that says how the module is loaded, with and without adapters_xtl."""

from __future__ import annotations

from collections.abc import Sequence

from adapters_xtl import methods
from adapters_xtl.backbones.registry import NAMED
from adapters_xtl.sharing.bundle_record import BundleRecord

__all__ = ["folders_of", "snippet", "usage"]


def folders_of(stack: Sequence[str]) -> list[str]:
    """Different directory names for the modules of a stack, given by their tasks."""
    return [
        name if name not in stack[:at] else f"{name}_{stack[: at + 1].count(name)}"
        for at, name in enumerate(stack)
    ]


def usage(record: BundleRecord, stack: Sequence[str], fused: Sequence[str]) -> list[str]:
    """Lines of Markdown. `stack` and `fused` as in `bundle_card`."""
    folders, method = folders_of(stack), methods.load(record.method)
    shown = ", ".join(f"`{name}`" for name in folders)
    several = len(folders) > 1
    lines = []
    if record.compose != "fuse":  # nothing is trained above a fusion layer
        where = f"the bundle{'s' * several} in the director{'ies' if several else 'y'} {shown}"
        target = "pawsx" if record.task != "pawsx" else "xnli"
        compose = "" if "stack" in method.compositions else " --compose init"
        flags = f"--method {record.method} --backbone {record.backbone.name}{compose}"
        lines = [
            f"With adapters_xtl and {where}, to train another task above it:",
            "",
            "```sh",
            f"xtl hub verify {folders[-1]}",
            f"xtl recipe {target} --on ./{folders[-1]} {flags}",
            "```",
            "",
        ]
    lines += [
        f"With {method.library} alone:" if method.has_own_library else "In Python:",
        "",
        "```python",
        *snippet(record, stack, fused),
        "```",
    ]
    if record.labels:
        lines += [
            "",
            "`head/<task>/` holds the head: linear layers over the last hidden states, as its"
            " config.json describes.",
        ]
    return lines


def snippet(record: BundleRecord, stack: Sequence[str], fused: Sequence[str] = ()) -> list[str]:
    """Python that loads a stack with the library alone, from directories named by `folders_of`; it
    leaves `model`.
    """
    folders, backbone = folders_of(stack), record.backbone
    named = NAMED.get(backbone.name)
    if named and named.source != "hub":
        imports = [
            "from adapters_xtl.backbones import loading, registry  # the encoder: no hub has it",
            "",
        ]
        load = [f'encoder, tokenizer = loading.load(registry.resolve("{backbone.name}"))']
    else:
        pinned = f', revision="{backbone.revision}"' if backbone.revision else ""
        imports = ["from transformers import AutoModel", ""]
        load = [
            f'encoder = AutoModel.from_pretrained("{backbone.location}"{pinned},'
            " add_pooling_layer=False)"
        ]
    fuses = record.compose == "fuse"
    return methods.load(record.method).loading_code(
        imports, load, folders, list(fused) if fuses else folders, fuses
    )
