"""Reading Fernet tokens (github.com/fernet/spec): texts of data sets that are published encrypted,
with their key, so that no crawler takes them for text.

AES-128 (FIPS 197) in CBC mode under HMAC-SHA256. Only decryption is here, in numpy: it guards no
secret.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["PREFIX", "decrypt"]

PREFIX = "gAAAA"  # version 0x80 and the leading zeros of a time stamp
BLOCK, DIGEST, HEADER = 16, 32, 9  # bytes of a block, of the HMAC, of version and time stamp
ROUNDS = 10
Bytes = NDArray[np.uint8]


def decrypt(token: str, key: str) -> str:
    """The text of a token. ValueError where the token is none, or is of another key."""
    try:
        data = base64.urlsafe_b64decode(token.encode("ascii"))
        secret = base64.urlsafe_b64decode(key)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("no Fernet token") from error
    body, digest = data[:-DIGEST], data[-DIGEST:]
    blocks = body[HEADER:]
    if len(blocks) < 2 * BLOCK or len(blocks) % BLOCK or body[0] != 0x80:
        raise ValueError("no Fernet token")
    if not hmac.compare_digest(hmac.new(secret[:BLOCK], body, hashlib.sha256).digest(), digest):
        raise ValueError("a Fernet token of another key")
    chain = np.frombuffer(blocks, np.uint8).reshape(-1, BLOCK)
    plain = (_decrypted(chain[1:], secret[BLOCK:]) ^ chain[:-1]).tobytes()
    return plain[: -plain[-1]].decode("utf-8")


def _decrypted(blocks: Bytes, key: bytes) -> Bytes:
    """The blocks (N, 16) under the inverse cipher of FIPS 197, section 5.3."""
    keys = _round_keys(key)
    inverse = np.argsort(_substitutes()).astype(np.uint8)
    # a state's bytes stand column by column: byte 4c + r is in row r, and row r moves by r
    rows_moved = [4 * ((number // 4 - number % 4) % 4) + number % 4 for number in range(BLOCK)]
    state: Bytes = blocks ^ keys[ROUNDS]
    for number in range(ROUNDS - 1, -1, -1):
        state = inverse[state[:, rows_moved]] ^ keys[number]
        if number:
            state = _columns_unmixed(state)
    return state


def _columns_unmixed(state: Bytes) -> Bytes:
    columns = state.reshape(-1, 4, 4)
    products = [_times(factor)[columns] for factor in (14, 11, 13, 9)]
    mixed = products[0].copy()
    for distance in (1, 2, 3):
        mixed ^= np.roll(products[distance], -distance, axis=2)
    return mixed.reshape(-1, BLOCK)


def _doubled(number: int) -> int:
    return (number << 1) ^ (0x11B if number & 0x80 else 0)


@cache
def _times(factor: int) -> Bytes:
    """The products of every byte and `factor` in GF(2^8)."""
    products = np.zeros(256, np.uint8)
    for number in range(256):
        power, product = number, 0
        for bit in range(8):
            product ^= power if factor >> bit & 1 else 0
            power = _doubled(power)
        products[number] = product
    return products


@cache
def _substitutes() -> Bytes:
    """The S-box: the inverse in GF(2^8), then an affine map of its bits."""
    powers, number = [], 1
    for _ in range(255):
        powers.append(number)
        number ^= _doubled(number)  # by 3, which generates the field
    box = np.zeros(256, np.uint8)
    for exponent, value in enumerate(powers):
        inverse = powers[-exponent % 255]
        doubled = inverse << 8 | inverse
        mapped = inverse
        for shift in (4, 5, 6, 7):
            mapped ^= doubled >> shift & 0xFF
        box[value] = mapped ^ 0x63
    box[0] = 0x63
    return box


@cache
def _round_keys(key: bytes) -> Bytes:
    """The eleven round keys (11, 16) of a key of 16 bytes."""
    box = _substitutes()
    words = [np.frombuffer(key[4 * number : 4 * number + 4], np.uint8) for number in range(4)]
    constant = 1
    for number in range(4, 4 * (ROUNDS + 1)):
        word = words[-1]
        if number % 4 == 0:
            word = box[np.roll(word, -1)]
            word[0] ^= constant
            constant = _doubled(constant)
        words.append(words[-4] ^ word)
    keys: Bytes = np.concatenate(words).reshape(ROUNDS + 1, BLOCK)
    return keys
