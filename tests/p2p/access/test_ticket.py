"""A ticket arrives as it was made; whatever else arrives is refused, and nothing worse."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
import json
import os
from typing import Any

from hypothesis import given, settings, strategies as st
import pytest

from p2p.access.ticket import (
    MAX_TICKET,
    BadTicket,
    ItemFacts,
    Ticket,
    armored,
    endpoint,
    read,
)
from p2p.models import Item, Kind
from p2p.torrent.metainfo import make

HOME, OTHER, ITEM = "A" * 28, "B" * 28, "c" * 26
SIZE = 3 * 256 * 1024 + 5
META = make(SIZE, os.urandom(80), bytes(16))
ITEM_FACTS = ItemFacts(
    id=ITEM,
    kind=Kind.VIDEO,
    name="Film.mkv",
    title="Film",
    content_type="video/x-matroska",
    size=SIZE,
    etag='"1-2-3"',
    modified=1.6e9,
    duration=60.5,
    bit_rate=8_000_000,
)
TICKET = Ticket(
    owner=HOME,
    owner_name="Ann's home",
    receiver=OTHER,
    item=ITEM_FACTS,
    torrent=armored(META),
    endpoints=("192.0.2.7:40000", "[2001:db8::1]:40000"),
    expires=2e9,
)


def with_item(**facts: Any) -> Ticket:
    return replace(TICKET, item=replace(ITEM_FACTS, **facts))


@pytest.mark.parametrize(
    "ticket",
    [
        TICKET,
        replace(TICKET, torrent=None, endpoints=()),
        replace(with_item(size=0, duration=None, bit_rate=None), torrent=None),
        with_item(name="سه‌گانه 👩‍👧.mkv"),
        with_item(content_type="application/octet-stream"),
    ],
)
def test_a_ticket_arrives_as_it_was_made(ticket: Ticket) -> None:
    assert read(ticket.encode()) == ticket
    assert read(ticket.encode().decode()) == ticket


def test_what_is_in_it_can_be_used() -> None:
    assert TICKET.metainfo() == META
    assert TICKET.addresses() == (("192.0.2.7", 40000), ("2001:db8::1", 40000))
    assert [endpoint(*each) for each in TICKET.addresses()] == list(TICKET.endpoints)
    assert TICKET.is_live(TICKET.expires - 1)
    assert not TICKET.is_live(TICKET.expires)
    assert replace(TICKET, torrent=None).metainfo() is None


@pytest.mark.parametrize(
    ("ticket", "why"),
    [
        (replace(TICKET, owner="../" + "a" * 23), "owner"),
        (replace(TICKET, receiver="a" * 28), "receiver"),
        (replace(TICKET, receiver="A" * 28 + "\n"), "receiver"),
        (replace(TICKET, owner_name="x" * 256), "name"),
        (replace(TICKET, owner_name="a\u202eb"), "name"),
        (replace(TICKET, expires=0.0), "end"),
        (replace(TICKET, expires=-1e18), "end"),
        (replace(TICKET, expires=1e300), "end"),
        (with_item(id="../../etc/passwd"), "id"),
        (with_item(name="../x.mkv"), "name"),
        (with_item(name=""), "name"),
        (with_item(name="a\r\nSet-Cookie: b"), "name"),
        (with_item(title="a\0b"), "title"),
        (with_item(title="x" * 1001), "title"),
        (with_item(content_type="text/html"), "type"),
        (with_item(content_type="image/svg+xml"), "type"),
        (with_item(content_type="video/mp4; x=y"), "type"),
        (with_item(content_type="video/mp4\r\nX: y"), "type"),
        (with_item(size=-1), "size"),
        (with_item(size=2**60), "size"),
        (with_item(size=SIZE + 1), "metainfo"),
        (with_item(size=0), "metainfo"),
        (with_item(etag="1-2-3"), "tag"),
        (with_item(etag='W/"1"'), "tag"),
        (with_item(etag='"a\r\nb"'), "tag"),
        (with_item(etag='"a" , "b"'), "tag"),
        (with_item(modified=-1.0), "time"),
        (with_item(duration=-1.0), "duration"),
        (with_item(duration=1e18), "duration"),
        (with_item(bit_rate=2**60), "bit rate"),
        (replace(TICKET, torrent="no base64!"), "base64"),
        (replace(TICKET, torrent="é"), "base64"),
        (replace(TICKET, torrent=""), "metainfo"),
        (replace(TICKET, torrent=b64encode(b"d4:infode").decode()), "metainfo"),
        (replace(TICKET, torrent=armored(META) + "AAAA"), "base64"),
        (replace(TICKET, endpoints=("192.0.2.7:40000",) * 17), "endpoints"),
        *(
            (replace(TICKET, endpoints=(text,)), "endpoint")
            for text in (
                "",
                "192.0.2.7",
                ":40000",
                "192.0.2.7:80",
                "192.0.2.7:65536",
                "192.0.2.7:040000",
                "192.0.2.7:٤٠٠٠٠",
                "192.0.2.7:-4000",
                "router.local:40000",
                "localhost:40000",
                "0.0.0.0:40000",
                "255.255.255.255:40000",
                "224.0.0.1:40000",
                "[::]:40000",
                "[ff02::1]:40000",
                "2001:db8::1:40000",
                "[192.0.2.7]:40000",
                "[2001:db8::1:40000",
                "3221225991:40000",
            )
        ),
    ],
)
def test_a_ticket_that_no_engine_makes_is_refused(ticket: Ticket, why: str) -> None:
    with pytest.raises(BadTicket, match=why):
        read(ticket.encode())


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"owner": ' * 5000,
        json.dumps({"owner": HOME}).encode(),
        TICKET.encode()[:-1],
        TICKET.encode() + b"x",
        b" " * (MAX_TICKET + 1),
    ],
    ids=lambda payload: repr(payload[:20]),
)
def test_what_is_no_ticket_is_refused(payload: bytes) -> None:
    with pytest.raises(BadTicket):
        read(payload)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(
    where=st.sampled_from(
        [
            *[(each,) for each in json.loads(TICKET.encode())],
            *[("item", each) for each in json.loads(TICKET.encode())["item"]],
        ]
    ),
    value=PLAIN,
)
@settings(max_examples=300, deadline=None)
def test_any_value_in_any_place_gives_a_sound_ticket_or_an_error(
    where: tuple[str, ...], value: object
) -> None:
    plain = json.loads(TICKET.encode())
    place = plain
    for name in where[:-1]:
        place = place[name]
    place[where[-1]] = value
    try:
        ticket = read(json.dumps(plain))
    except BadTicket:
        return
    ticket.addresses()
    ticket.metainfo()
    assert "\n" not in ticket.item.name + ticket.item.content_type + ticket.item.etag


@given(
    name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300),
    title=st.text(st.characters(exclude_categories=["Cs"]), max_size=1200),
    modified=st.floats(allow_nan=False, allow_infinity=False),
    duration=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    bit_rate=st.none() | st.integers(-(2**62), 2**62),
)
@settings(max_examples=200, deadline=None)
def test_whatever_an_item_is_called_its_ticket_is_accepted(
    name: str, title: str, modified: float, duration: float | None, bit_rate: int | None
) -> None:
    item = Item(
        id=ITEM,
        share="s",
        kind=Kind.MUSIC,
        name=name,
        title=title,
        folder="",
        content_type="audio/flac",
        size=1,
        modified=modified,
        added=0.0,
        available=True,
        etag='"x"',
        duration=duration,
        bit_rate=bit_rate,
    )
    facts = ItemFacts.of(item, size=SIZE, etag='"y"', modified=modified)
    ticket = replace(TICKET, item=facts)
    assert read(ticket.encode()) == ticket
    assert (facts.size, facts.etag) == (SIZE, '"y"')


OWN = (
    *("127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]"),
    *("[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::1]"),
    "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
)
"""Ways to write an address of the machine that calls it."""
NOBODYS = (
    *("169.254.169.254", "0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255"),
    *("240.0.0.1", "[::]", "[fe80::1]", "[fe80::1%eth0]", "[2001:db8::1%1]"),
    *("[ff02::1]", "[fec0::1]", "[::ffff:169.254.169.254]", "[::ffff:0.0.0.0]"),
    *("[64:ff9b::a9fe:a9fe]", "[64:ff9b::e000:1]", "[2002:a9fe:a9fe::1]"),
)
"""Addresses at which no home can be."""


@pytest.mark.parametrize("host", OWN + NOBODYS)
def test_nobody_elsewhere_points_this_home_at_its_own_machine_or_at_none(
    host: str,
) -> None:
    ticket = replace(TICKET, endpoints=(f"{host}:40000",)).encode()
    with pytest.raises(BadTicket, match="endpoint"):
        read(ticket)
    if host in NOBODYS:
        with pytest.raises(BadTicket, match="endpoint"):
            read(ticket, kept=True)
    else:
        assert read(ticket, kept=True).endpoints == (f"{host}:40000",)


@pytest.mark.parametrize(
    "host",
    [
        *("192.168.1.20", "10.0.0.1", "100.64.0.1", "203.0.113.1", "[fd00::2]"),
        *("[2a00::1]", "[::ffff:192.168.1.20]", "[64:ff9b::cb00:7101]"),
    ],
)
def test_homes_in_the_same_network_and_elsewhere_may_be_called(host: str) -> None:
    ticket = replace(TICKET, endpoints=(f"{host}:40000",))
    assert read(ticket.encode()) == ticket
