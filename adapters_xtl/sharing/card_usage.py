"""The part of a model card that says how the module is loaded, with and without adapters_xtl."""

from __future__ import annotations

from collections.abc import Sequence

from adapters_xtl.backbones.registry import NAMED
from adapters_xtl.sharing.bundle_record import BundleRecord

__all__ = ["LIBRARY", "folders_of", "snippet", "usage"]

LIBRARY = {"bottleneck": "adapters", "lora": "peft", "full": "transformers"}


def folders_of(stack: Sequence[str]) -> list[str]:
    """Different directory names for the modules of a stack, given by their tasks."""
    return [
        name if name not in stack[:at] else f"{name}_{stack[: at + 1].count(name)}"
        for at, name in enumerate(stack)
    ]


def usage(record: BundleRecord, stack: Sequence[str], fused: Sequence[str]) -> list[str]:
    """Lines of Markdown. `stack` and `fused` as in `bundle_card`."""
    folders, library = folders_of(stack), LIBRARY[record.method]
    shown = ", ".join(f"`{name}`" for name in folders)
    several = len(folders) > 1
    lines = []
    if record.compose != "fuse":  # nothing is trained above a fusion layer
        where = f"the bundle{'s' * several} in the director{'ies' if several else 'y'} {shown}"
        target = "pawsx" if record.task != "pawsx" else "xnli"
        compose = " --compose init" if record.method == "full" else ""
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
        f"With {library} alone:",
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
    folders, backbone, method = folders_of(stack), record.backbone, record.method
    if method == "full":
        folder = f"{folders[-1]}/module"
        return [
            "from transformers import AutoModel",
            "",
            f'model = AutoModel.from_pretrained("{folder}", add_pooling_layer=False).eval()',
        ]
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
    if method == "lora":
        return ["from peft import PeftModel", *imports, *load, *_peft(folders)]
    block, names = ("Fuse", list(fused)) if record.compose == "fuse" else ("Stack", folders)
    return [
        "import adapters",
        f"from adapters.composition import {block}",
        *imports,
        *load,
        *_adapters(folders, block, names),
    ]


def _peft(folders: Sequence[str]) -> list[str]:
    first = folders[0]
    lines = [
        f'model = PeftModel.from_pretrained(encoder, "{first}/module", adapter_name="{first}")'
    ]
    lines += [
        f'model.load_adapter("{folder}/module", adapter_name="{folder}")' for folder in folders[1:]
    ]
    if len(folders) > 1:
        lines.append(f"model.base_model.set_adapter({list(folders)!r})  # active modules add up")
    return [*lines, "model = model.eval()"]


def _adapters(folders: Sequence[str], block: str, names: Sequence[str]) -> list[str]:
    lines = ["adapters.init(encoder)", "model = encoder.eval()"]
    lines += [
        f'model.load_adapter("{folder}/module", load_as="{name}", use_safetensors=True)'
        for folder, name in zip(folders, names, strict=False)
    ]
    if block == "Fuse":
        lines.append(f'model.load_adapter_fusion("{folders[-1]}/module", use_safetensors=True)')
    return [*lines, f"model.active_adapters = {block}({', '.join(map(repr, names))})"]
