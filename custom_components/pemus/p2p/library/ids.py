"""Item ids: 26 characters a-z, 2-7, which tell nothing and cannot be guessed.

An id is 16 bytes in base32: ten random ones, kept with the item, and before them the number of the item's row, hidden by
the random ones. So an item is found by its row number, without an index of random keys, which would be what a scan of a
large share spends most of its time on.
"""

from __future__ import annotations

from base64 import b32decode, b32encode
import re
import secrets

NONCE_SIZE = 10
_ROW_SIZE = 6
_VALID = re.compile(r"[a-z2-7]{26}")


def new_nonces(count: int) -> list[bytes]:
    """Return the random parts of `count` new ids."""
    block = secrets.token_bytes(NONCE_SIZE * count)
    return [
        block[start : start + NONCE_SIZE] for start in range(0, len(block), NONCE_SIZE)
    ]


def item_id(row: int, nonce: bytes) -> str:
    """Return the id of the item in row `row`."""
    hidden = row ^ int.from_bytes(nonce[:_ROW_SIZE])
    raw = hidden.to_bytes(_ROW_SIZE) + nonce
    return b32encode(raw)[:26].decode().lower()


def parse_item_id(text: str) -> tuple[int, bytes] | None:
    """Return row number and random part of an id, None if it is none."""
    if not _VALID.fullmatch(text):
        return None
    raw = b32decode(text.upper() + "======")
    nonce = raw[_ROW_SIZE:]
    row = int.from_bytes(raw[:_ROW_SIZE]) ^ int.from_bytes(nonce[:_ROW_SIZE])
    # The last character has two bits too many: only one spelling of each id is right.
    return (row, nonce) if item_id(row, nonce) == text else None
