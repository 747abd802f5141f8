"""Backbones that read less than 512 tokens, or whose tokenizer belongs to another model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, XLMRobertaConfig, XLMRobertaModel

from adapters_xtl.backbones import embedded, loading, registry
from adapters_xtl.backbones.registry import TINY_CONFIG
from adapters_xtl.base.errors import RequestError
from adapters_xtl.cli.commands import recipe as commands
from adapters_xtl.predictor import load


def _checkpoint(folder: Path, added_tokens: int = 0, **config: int) -> Path:
    """A random two-layer XLM-R with the embedded encoder's tokenizer."""
    folder.mkdir()
    for path in embedded.prepare(lambda text: None).iterdir():
        if "token" in path.name:
            shutil.copy(path.resolve(), folder / path.name)
    torch.manual_seed(1)
    model = XLMRobertaModel(XLMRobertaConfig(**{**TINY_CONFIG, **config}), add_pooling_layer=False)
    model.save_pretrained(folder)
    if added_tokens:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.add_tokens([f"<new{number}>" for number in range(added_tokens)])
        tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("added", "rows", "highest"), [(0, 1000, "250,001"), (2, 250_002, "250,003")]
)
def test_tokens_beyond_the_table_are_refused_before_anything_runs(
    tmp_path: Path, added: int, rows: int, highest: str
) -> None:
    folder = _checkpoint(tmp_path / "model", added, vocab_size=rows)
    with pytest.raises(RequestError, match=f"{highest}.*{rows:,} rows"):
        loading.load(registry.resolve(str(folder)))


def test_retrieval_reads_what_a_short_backbone_reads(tmp_path: Path) -> None:
    """66 positions, of which XLM-R gives 64 to tokens: long sentences are cut there, and the record
    says so.
    """
    folder = _checkpoint(tmp_path / "short", max_position_embeddings=66)
    request = commands.request(
        task="tatoeba",
        on="",
        set_=[],
        set_parents=[],
        backbone=str(folder),
        data="embedded",
        device="cpu",
        languages="de",
        runs=str(tmp_path / "runs"),
    )
    payload, _ = commands.recipe(
        request, baseline=False, force=False, dry_run=False, notify=lambda text: None
    )
    assert payload["metrics"]["tasks"]["tatoeba"]["max_length"] == 64
    trained, _ = commands.recipe(
        commands.request(
            task="csqa",
            on="",
            set_=["train.max_steps=1", "train.max_length=32"],
            set_parents=[],
            backbone=str(folder),
            data="embedded",
            device="cpu",
            runs=str(tmp_path / "runs"),
        ),
        baseline=False,
        force=False,
        dry_run=False,
        notify=lambda text: None,
    )
    module = load(trained["path"], runs=str(tmp_path / "runs"), backbone=str(folder))
    words = [f"word{number}" for number in range(400)]
    long, cut, other = module.embed(
        [" ".join(words), " ".join([*words[:200], "other"]), "another sentence"]
    )
    np.testing.assert_allclose(long, cut, atol=1e-6)
    assert np.abs(long - other).max() > 1e-3
    for layer in (-1, 5):
        with pytest.raises(RequestError, match=f"layer {layer}"):
            module.embed(["a text"], layer=layer)
    for layer in ("all", "2", 1.0, True):
        with pytest.raises(RequestError, match=r"layer=.*whole number"):
            module.embed(["a text"], layer=layer)  # type: ignore[arg-type]
    record = json.loads((Path(payload["path"]) / "metrics.json").read_text())
    assert record["tasks"]["tatoeba"]["max_length"] == 64
