"""A small random BERT whose words are spelt in letters, as a directory: the other kind of backbone,
with token types, a pooler of its own and a tokenizer of word pieces.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

__all__ = ["SIZES", "small_bert"]

SIZES = {
    "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 130, "initializer_range": 0.15,
}  # fmt: skip


def small_bert(folder: Path, **changes: Any) -> Path:
    """Writes the checkpoint into an empty directory, and returns it. `changes`: to its config."""
    torch.manual_seed(1)
    BertModel(BertConfig(**SIZES | changes)).save_pretrained(folder)
    letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder
