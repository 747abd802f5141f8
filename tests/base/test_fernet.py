"""Fernet tokens: the example of its specification, and what is no token."""

from __future__ import annotations

import numpy as np
import pytest

from adapters_xtl.base import fernet

KEY = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="
TOKEN = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA=="


def test_the_examples_of_the_specifications() -> None:
    """FIPS 197, appendix C.1, twice in a row; github.com/fernet/spec, verify.json."""
    blocks = np.frombuffer(bytes.fromhex("69c4e0d86a7b0430d8cdb78070b4c55a" * 2), np.uint8)
    plain = fernet._decrypted(blocks.reshape(2, 16), bytes(range(16)))
    assert plain.tobytes().hex() == "00112233445566778899aabbccddeeff" * 2
    assert TOKEN.startswith(fernet.PREFIX) and fernet.decrypt(TOKEN, KEY) == "hello"


@pytest.mark.parametrize(
    "token", ["", "gAAAA", "größer", TOKEN[:-24], TOKEN.replace("z7J", "z7K"), "A" * 100]
)
def test_what_is_no_token_is_no_text(token: str) -> None:
    with pytest.raises(ValueError, match="Fernet token"):
        fernet.decrypt(token, KEY)
