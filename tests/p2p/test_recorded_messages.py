"""Homes one release apart understand each other: what release 0.1.0 sends is read, and what is sent now looks the same.

`recorded/version-1.json` holds messages of version 1 of the protocol. Two homes, Ada and Ben, exchange them; their keys
are part of the recording. It never changes. A later version of the protocol gets a recording of its own.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
import pytest

from p2p.access import ticket
from p2p.catalogue import wire
from p2p.friends import pairing, presence, sas
from p2p.models import Kind
from p2p.models.codec import decode, encode
from p2p.net import messages
from p2p.net.identity import Identity
from p2p.net.link import frames, handshake
from p2p.torrent.tracker import Introduction

RECORDED: Any = json.loads(
    (Path(__file__).parent / "recorded/version-1.json").read_text()
)
BODIES: dict[str, type] = {
    "ping": presence.Ping,
    "pong": presence.Pong,
    "changed": presence.Changed,
    "stranger": presence.Stranger,
    "request": pairing.Request,
    "received": pairing.Received,
    "reveal": pairing.Reveal,
    "verdict": pairing.Verdict,
    "offer": handshake.Offer,
    "answer": handshake.Answer,
    "refused": handshake.Refused,
}
PAYLOADS: dict[str, type] = {
    "HELLO": frames.Hello,
    "BYE": frames.Bye,
    "ASK": frames.Ask,
    "REFUSE": frames.Refusal,
    "NOTE": frames.Note,
    "INTRODUCE": Introduction,
}


def bytes_of(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def home(name: str) -> Identity:
    return Identity.of(bytes_of(RECORDED["homes"][name]["seed"]))


ADA, BEN = home("Ada"), home("Ben")


@pytest.fixture(autouse=True)
def at_the_time_of_the_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: RECORDED["at"])


def envelopes() -> list[Any]:
    return [
        pytest.param(each, id=f"{number}-{each['kind']}")
        for number, each in enumerate(RECORDED["envelopes"])
    ]


def test_homes_have_the_ids_that_they_had() -> None:
    for name, identity in (("Ada", ADA), ("Ben", BEN)):
        assert identity.id == RECORDED["homes"][name]["id"]
        assert identity.key == bytes_of(RECORDED["homes"][name]["key"])


@pytest.mark.parametrize("recorded", envelopes())
def test_a_recorded_envelope_is_read(recorded: dict[str, Any]) -> None:
    envelope = messages.opened(recorded, BEN.id)
    assert envelope.sender == ADA.id
    assert envelope.kind == recorded["kind"]
    body = decode(BODIES[envelope.kind], envelope.body)
    assert json.loads(encode(body)) == json.loads(recorded["body"])


@pytest.mark.parametrize("recorded", envelopes())
def test_what_a_later_release_may_add_is_ignored(recorded: dict[str, Any]) -> None:
    body = recorded["body"].removesuffix("}") + ',"later":[1,{"a":null}]}'
    sent = messages.seal(ADA, BEN.id, recorded["kind"], body.encode())
    envelope = messages.opened(sent | {"later": "too"}, BEN.id)
    known = decode(BODIES[envelope.kind], envelope.body)
    assert known == decode(BODIES[envelope.kind], recorded["body"])


def test_an_envelope_is_sent_and_signed_as_it_was() -> None:
    """Spelled out, as the other home may be of any release."""
    for recorded in RECORDED["envelopes"]:
        sent = messages.seal(ADA, BEN.id, recorded["kind"], recorded["body"].encode())
        assert {name: type(value) for name, value in sent.items()} == {
            name: type(value) for name, value in recorded.items()
        }
        for envelope in (sent, recorded):
            texts = (
                *("pemus peers 1", envelope["id"], ADA.id, BEN.id),
                *(f"{envelope['at']:.3f}", envelope["kind"], envelope["body"]),
            )
            signed = b"".join(
                len(text.encode()).to_bytes(4) + text.encode() for text in texts
            )
            key = Ed25519PublicKey.from_public_bytes(bytes_of(envelope["key"]))
            key.verify(bytes_of(envelope["signature"]), signed)


def test_both_homes_show_the_recorded_words() -> None:
    recorded = RECORDED["pairing"]
    asking, asked = (
        (home(each["home"]).key, bytes.fromhex(each["nonce"]))
        for each in (recorded["asking"], recorded["asked"])
    )
    committed = sas.commitment(asking[1], asking[0])
    assert committed.hex() == recorded["commitment"]
    assert list(sas.words(asking, asked, recorded["request"])) == recorded["words"]


@pytest.mark.parametrize(("signer", "other"), [(ADA, BEN), (BEN, ADA)])
def test_a_recorded_link_is_signed_by_both_homes(
    signer: Identity, other: Identity
) -> None:
    link = RECORDED["link"]
    made_of = handshake.transcript(
        handshake.Party(ADA.id, ADA.key),
        handshake.Party(BEN.id, BEN.key),
        handshake.Offer(**link["offer"]),
        handshake.Answer(**link["answer"]),
    )
    hello = decode(frames.Hello, link["hello"]["Ada" if signer is ADA else "Ben"])
    checked = handshake.Handshake(other, signer.key, other is ADA, made_of)
    assert checked.is_signed(hello)
    signed = handshake.Handshake(signer, other.key, signer is ADA, made_of).sign(hello)
    assert signed == hello


def test_recorded_frames_are_read_and_written_as_they_were() -> None:
    seen = set()
    for each in RECORDED["link"]["frames"]:
        recorded = bytes_of(each["bytes"])
        frame = frames.unpack(recorded)
        kind = frames.FrameType(frame.type)
        assert kind.name == each["type"]
        assert frames.pack(kind, frame.number, frame.payload) == recorded
        if kind.name in PAYLOADS:
            payload = decode(PAYLOADS[kind.name], frame.payload)
            # Later releases may add fields, which this one ignores.
            written = json.loads(encode(payload))
            assert json.loads(frame.payload).items() <= written.items()
        seen.add(kind)
    assert seen == set(frames.FrameType)


def test_recorded_requests_ask_for_what_they_asked_for() -> None:
    asks = [
        decode(frames.Ask, frames.unpack(bytes_of(each["bytes"])).payload)
        for each in RECORDED["link"]["frames"]
        if each["type"] == "ASK"
    ]
    assert [ask.do for ask in asks] == [
        *("catalogue", "ticket", "range", "thumbnail", "subtitles"),
    ]
    assert (asks[2].etag, asks[2].start, asks[2].stop) == (
        '"5f3-1a"',
        4_194_304,
        8_388_608,
    )
    assert asks[4].index == 1
    count = next(
        frames.unpack(bytes_of(each["bytes"]))
        for each in RECORDED["link"]["frames"]
        if each["type"] == "TAKEN"
    )
    assert frames.unpack_count(count.payload) == 4_194_304


def test_recorded_tickets_are_read_and_written_as_they_were() -> None:
    whole, link_only = map(ticket.read, RECORDED["tickets"])
    for read, recorded in zip((whole, link_only), RECORDED["tickets"], strict=True):
        assert json.loads(read.encode()) == json.loads(recorded)
        assert (read.owner, read.receiver) == (ADA.id, BEN.id)
        assert read.is_live(RECORDED["at"])
    assert whole.item.kind is Kind.VIDEO
    metainfo = whole.metainfo()
    assert metainfo is not None
    assert metainfo.piece_count == 40
    assert metainfo.info_hash == "4691c4404a84ab8e2d6c9023b214873a46bb3235"
    assert link_only.metainfo() is None
    assert link_only.link_only


def test_a_recorded_catalogue_is_read() -> None:
    known = wire.read_have(RECORDED["catalogue"]["have"])
    assert known[1].sequence == 9180
    assert known[1].checkpoint == wire.Checkpoint(
        sequence=9200, id=-4821907713318276081
    )

    changes, whole = (
        wire.read(bytes_of(each)) for each in RECORDED["catalogue"]["pages"]
    )
    assert changes.head.shares is not None
    assert [share.id for share in changes.head.shares] == ["films", "music"]
    assert [place.path for place in wire.places(changes.head.folders)] == [
        *("", "", "Lakes"),
    ]
    (part,) = changes.parts
    assert (part.after, part.until, part.gone, part.whole) == (9180, 9207, [51], False)
    assert part.items[0]["facts"]["title"] == "A Day at the Lake"
    assert part.items[0]["subtitles"][0]["language"] == "en"
    assert whole.head.last
    (part,) = whole.parts
    assert part.whole
    song, photo = part.items
    assert song["group"]["position"] == 1003
    assert photo["month"] == 202_204
