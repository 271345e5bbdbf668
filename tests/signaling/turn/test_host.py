"""What a guest is told of STUN before it has any credentials."""

from __future__ import annotations

import time
from typing import Any

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
import pytest

from tests.signaling.server import http, running


@pytest.mark.parametrize(
    ("settings", "urls"),
    [
        ({"turn_secret": "s" * 16}, ["stun:127.0.0.1:3478"]),
        (
            {"turn_secret": "s" * 16, "turn_host": "turn.example"},
            ["stun:turn.example:3478"],
        ),
        ({}, None),
    ],
)
async def test_guests_of_a_room_learn_where_stun_is(
    settings: dict[str, Any], urls: list[str] | None
) -> None:
    async with running(**settings) as server, aiohttp.ClientSession() as session:
        private = Ed25519PrivateKey.generate()
        key = private.public_key().public_bytes_raw()
        headers = {"Authorization": f"Bearer {server.sessions.issue(key)[0]}"}
        given = {"expires": int(time.time()) + 600}
        async with session.post(
            http(server, "/room"), json=given, headers=headers
        ) as answer:
            room = await answer.json()
        async with session.get(http(server, f"/room/{room['slug']}")) as answer:
            assert (await answer.json()).get("stun") == urls
