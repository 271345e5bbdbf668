"""What a signalling server hands out for TURN: what is taken of it, and for how long."""

from __future__ import annotations

from collections.abc import Callable
import time
from typing import Any

from hypothesis import given, strategies as st
import pytest

from p2p.net.signaling.turn import (
    MAX_SERVERS,
    MAX_URLS,
    MAX_VALIDITY,
    RENEW_MARGIN,
    RETRY_PAUSE,
    Credentials,
    hosts_inside,
    is_public,
    read_ice_servers,
    validity,
)
from p2p.net.webrtc.ice import IceServer
from p2p.net.webrtc.patches.crc import lend

STUN = {"urls": ["stun:signal.example:3478"]}
TURN = {
    "urls": ["turn:signal.example:3478?transport=udp", "turns:10.0.0.1:443"],
    "username": "1795000000:abc",
    "credential": "secret=",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["iceServers", "urls", "username", "credential", "x"]),
            inner,
        )
    ),
)


def answer(*servers: object, **more: object) -> dict[str, Any]:
    return {"iceServers": list(servers), "expires": int(time.time() + 3600), **more}


def test_servers_are_read_as_a_peer_connection_takes_them() -> None:
    assert read_ice_servers(answer(STUN, TURN, {"urls": "stuns:10.0.0.1"})) == (
        IceServer(urls=("stun:signal.example:3478",)),
        IceServer(
            urls=("turn:signal.example:3478?transport=udp", "turns:10.0.0.1:443"),
            username="1795000000:abc",
            credential="secret=",
        ),
        IceServer(urls=("stuns:10.0.0.1",)),
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://signal.example",
        "turn:",
        "turn:host:0",
        "turn:host:65536",
        "turn:host:3478?transport=sctp",
        "stun:host?transport=udp",
        "STUN:host",
        "turn:[2001:db8::1]:3478",
        "turn:host:3478\r\nx",
        "turn:user@host",
        "stun:h\u00f6st",
        "stun:host:\u0663",
        "stun:" + "h" * 254,
        "stun:host/path",
        "",
        None,
        7,
        ["stun:host"],
    ],
)
def test_what_is_no_address_of_such_a_server_is_left_out(url: object) -> None:
    assert read_ice_servers(answer({"urls": [url]})) == ()
    assert read_ice_servers(answer({"urls": [url, "stun:host"]})) == (
        IceServer(urls=("stun:host",)),
    )


URLS = st.from_regex(
    r"(stun|turn|STUN)s?:[a-z0-9.:\[\]_?-]{0,12}(:[0-9]{0,6})?(\?transport=(udp|tcp|x))?",
    fullmatch=True,
)


@pytest.fixture(scope="module")
def parse() -> Callable[[str], object]:
    """Return how aiortc reads an address."""
    lend()
    from aiortc.rtcicetransport import parse_stun_turn_uri

    return parse_stun_turn_uri


@given(URLS | st.text(max_size=20))
def test_whatever_is_taken_aiortc_takes_as_well(
    parse: Callable[[str], object], url: str
) -> None:
    for server in read_ice_servers(answer(TURN | {"urls": [url]})):
        assert server.urls == (url,)
        assert parse(url)


@pytest.mark.parametrize(
    "server",
    [
        TURN | {"username": None},
        TURN | {"credential": ""},
        TURN | {"username": "x" * 513},
        TURN | {"credential": "line\nbreak"},
        TURN | {"username": 5},
        {"urls": []},
        {"urls": {"stun:host": 1}},
        {},
        None,
        "stun:host",
    ],
)
def test_a_server_that_is_not_as_it_should_be_is_left_out(server: object) -> None:
    assert read_ice_servers(answer(server, STUN)) == read_ice_servers(answer(STUN))


def test_there_are_not_more_than_make_sense() -> None:
    many = {"urls": ["stun:host"] * 1000}

    servers = read_ice_servers(answer(*[many] * 1000))

    assert len(servers) == MAX_SERVERS
    assert len(servers[0].urls) == MAX_URLS


@given(JSON)
def test_whatever_the_server_says_is_read_or_left_out(said: object) -> None:
    for server in read_ice_servers(said):
        assert server.urls
    Credentials().keep(said)


@pytest.mark.parametrize(
    ("ahead", "life"),
    [
        (1800, 1800),
        (3600, MAX_VALIDITY),
        (86400, MAX_VALIDITY),
        (0, MAX_VALIDITY),
        (-7200, MAX_VALIDITY),
        (float("inf"), MAX_VALIDITY),
        (float("nan"), MAX_VALIDITY),
    ],
)
def test_a_life_is_an_hour_at_most_and_if_a_clock_is_wrong(
    ahead: float, life: float
) -> None:
    assert validity(time.time() + ahead) == pytest.approx(life, abs=5)


@pytest.mark.parametrize("expires", [None, "soon", [], {}])
def test_a_life_that_is_not_told_is_an_hour(expires: object) -> None:
    assert validity(expires) == MAX_VALIDITY


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_credentials_are_kept_until_shortly_before_their_end() -> None:
    clock = Clock()
    credentials = Credentials(clock)
    assert credentials.are_wanted

    credentials.keep(answer(TURN))

    clock.now += MAX_VALIDITY - RENEW_MARGIN - 10
    assert not credentials.are_wanted
    clock.now += 20
    assert credentials.are_wanted
    assert credentials.servers
    clock.now += RENEW_MARGIN
    assert credentials.servers == ()


def test_those_that_are_still_good_stay_when_no_others_can_be_had() -> None:
    clock = Clock()
    credentials = Credentials(clock)
    credentials.keep(answer(TURN))
    clock.now += MAX_VALIDITY - RENEW_MARGIN + 10

    credentials.keep(None)

    assert credentials.servers
    assert not credentials.are_wanted
    clock.now += RETRY_PAUSE + 1
    assert credentials.are_wanted


def test_a_server_that_has_none_is_not_asked_all_the_time() -> None:
    clock = Clock()
    credentials = Credentials(clock)

    credentials.keep(answer())

    assert credentials.servers == ()
    assert not credentials.are_wanted
    clock.now += RETRY_PAUSE + 1
    assert credentials.are_wanted
    credentials.put_off()
    credentials.forget()
    assert credentials.are_wanted


def naming(*hosts: str) -> dict[str, Any]:
    urls = [f"turn:{host}:80?transport=tcp" for host in hosts]
    return answer(*(TURN | {"urls": [url]} for url in urls))


INSIDE = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "localhost",
    "10.0.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.251",
    "no-such-host.invalid",
]


@pytest.mark.parametrize("host", INSIDE)
async def test_hosts_of_this_homes_network_are_told_from_others(host: str) -> None:
    said = naming("8.8.8.8", host)
    inside = await hosts_inside(said)
    assert inside == {host}

    credentials = Credentials()
    credentials.keep(said, inside)

    (left,) = credentials.servers
    assert left.urls == ("turn:8.8.8.8:80?transport=tcp",)


async def test_more_hosts_than_are_looked_up_are_not_taken() -> None:
    said = naming(*(f"8.8.8.{number}" for number in range(8)))
    said["iceServers"][0]["urls"] = [f"stun:9.9.9.{n}" for n in range(8)]
    assert len(await hosts_inside(said)) == 7


def test_what_is_public() -> None:
    for text in ("8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8"):
        assert is_public(text)
    for text in (
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:10.0.0.1",
        "ff0e::1",
        "",
        "x",
    ):
        assert not is_public(text)
