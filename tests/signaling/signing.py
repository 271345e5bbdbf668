"""Room tokens as a home signs them."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
import orjson

from pemus_signaling.net import base64url
from pemus_signaling.rooms.tokens import RoomToken


def sign(private_key: Ed25519PrivateKey, token: RoomToken) -> str:
    """Return the text of a token. `token.key` must be the public key of `private_key`."""
    said: dict[str, Any] = {
        "v": 1,
        "key": base64url.encode(token.key),
        "room": token.room,
        "id": token.id,
        "exp": token.expires,
        "may": sorted(token.may),
    }
    if token.hashes is not None:
        said["hashes"] = sorted(each.hex() for each in token.hashes)
    body = orjson.dumps(said)
    return f"{base64url.encode(body)}.{base64url.encode(private_key.sign(b'pemus room token 1' + body))}"
