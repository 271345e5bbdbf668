"""Homes of release 0.1.0 prove their identity, and their guests' tokens are good: as recorded, whatever this server is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pemus_signaling.identity.proofs import Challenge
from pemus_signaling.net import base64url
from pemus_signaling.rooms import tokens

RECORDED: Any = json.loads(
    Path(__file__).parents[1].joinpath("p2p/recorded/version-1.json").read_text()
)
ADA = RECORDED["homes"]["Ada"]
SAID = RECORDED["signaling"]


def test_a_recorded_proof_is_right() -> None:
    challenge = Challenge(
        ADA["id"],
        SAID["challenge"]["origin"],
        base64url.decode(SAID["challenge"]["nonce"]),
    )
    assert json.loads(challenge.message()) == {
        "type": "CHALLENGE",
        "payload": SAID["challenge"],
    }
    assert challenge.met_by(SAID["prove"]) == base64url.decode(ADA["key"])


def test_a_recorded_room_token_is_read() -> None:
    token = tokens.read(SAID["room_token"], RECORDED["at"])
    assert token == tokens.RoomToken(
        key=base64url.decode(ADA["key"]),
        room="baku-timo-rosa-lufi",
        id="guest-1",
        expires=1_796_130_000,
        may=frozenset({tokens.ANNOUNCE, tokens.TURN}),
        hashes=frozenset({bytes(range(20))}),
    )
    with pytest.raises(tokens.TokenError):
        tokens.read(SAID["room_token"], token.expires)
