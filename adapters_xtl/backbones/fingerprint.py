"""The fingerprint of a backbone: the digest by which two encoders are the same.

It is taken over the configuration, the weights' sha256 and the tokenizer's sha256. For a hub id the
weights' sha256 are the hub's own LFS records, so that a run's id needs no download; the same files
in a local directory give the same fingerprint. No weights are loaded here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from adapters_xtl.backbones import Backbone
from adapters_xtl.backbones.registry import (
    MINI_CONFIG,
    MINI_FILES,
    TINY_CONFIG,
    TINY_SEED,
    checkpoint_of,
)
from adapters_xtl.base.files import digest

__all__ = ["fingerprinted", "identity"]

# keys of a config.json that say how a file was written or is used, not what the encoder computes
NOT_IDENTITY = frozenset(
    {
        "_name_or_path",
        "_attn_implementation_autoset",
        "architectures",
        "dtype",
        "torch_dtype",
        "transformers_version",
    }
)


def fingerprinted(backbone: Backbone) -> Backbone:
    """The backbone with its fingerprint and, for a hub id, the revision it has now (40 hex digits).

    RequestError when a file is lacking, the hub cannot be reached, or the architecture is not
    supported.
    """
    revision = checkpoint_of(backbone).revision if backbone.source in ("hub", "directory") else ""
    return replace(backbone, fingerprint=digest(identity(backbone)), revision=revision)


def identity(backbone: Backbone) -> dict[str, Any]:
    """What the fingerprint is the digest of: {"config", "weights": sha256, "tokenizer": name →
    sha256}.
    """
    if backbone.source == "embedded":
        return _identity(MINI_CONFIG, [MINI_FILES["model.safetensors"]], _mini_tokenizer())
    if backbone.source == "random":
        return _identity(TINY_CONFIG, [f"seed {TINY_SEED}"], _mini_tokenizer())
    checkpoint = checkpoint_of(backbone)
    checkpoint.check()
    weights = [checkpoint.sha256(name) for name in checkpoint.weights()]
    tokenizer = {name: checkpoint.sha256(name) for name in checkpoint.tokenizer()}
    return _identity(checkpoint.config(), weights, tokenizer)


def _identity(
    settings: Mapping[str, Any], weights: Iterable[str], tokenizer: Mapping[str, str]
) -> dict[str, Any]:
    plain = {key: value for key, value in settings.items() if key not in NOT_IDENTITY}
    return {"config": plain, "weights": sorted(weights), "tokenizer": dict(tokenizer)}


def _mini_tokenizer() -> dict[str, str]:
    return {
        name: value
        for name, value in MINI_FILES.items()
        if name not in ("config.json", "model.safetensors")
    }
