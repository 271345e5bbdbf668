"""What a request for a WebSocket looks like, and whose it is."""

from __future__ import annotations

from hypothesis import given, strategies as st
import pytest

from pemus_signaling.net.addresses import (
    Networks,
    Origins,
    household,
    plain_address,
    read_address,
)
from pemus_signaling.net.heads import (
    Handshake,
    HeadError,
    read_handshake,
    read_query,
    wants_websocket,
)

KEY = "AAAAAAAAAAAAAAAAAAAAAA=="


def head(*more: str, target: str = "/peerjs?id=a", **fields: str) -> bytes:
    usual = {
        "Host": "signal.example",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
    } | {name.replace("_", "-"): value for name, value in fields.items()}
    return "\r\n".join(
        [
            f"GET {target} HTTP/1.1",
            *(f"{name}: {value}" for name, value in usual.items()),
            *more,
        ]
    ).encode()


def test_a_handshake_is_read() -> None:
    read = read_handshake(
        head(
            "X-Forwarded-For: 1.2.3.4",
            "x-forwarded-for: 5.6.7.8",
            target="/a%20b?id=a%2Bb+c&id=d&e",
        )
    )
    assert read == Handshake(
        "/a b",
        {"id": "a+b c", "e": ""},
        KEY,
        "signal.example",
        ["1.2.3.4", "5.6.7.8"],
    )


@pytest.mark.parametrize(
    "connection", ["Upgrade", "upgrade", "keep-alive, Upgrade", "Keep-Alive,upgrade"]
)
def test_browsers_ask_in_different_ways(connection: str) -> None:
    assert read_handshake(head(Connection=connection, Upgrade="WebSocket")) is not None


@pytest.mark.parametrize(
    "fields",
    [{"Connection": "close"}, {"Upgrade": "h2c"}, {"Connection": "", "Upgrade": ""}],
)
def test_other_requests_are_none_of_its_business(fields: dict[str, str]) -> None:
    assert read_handshake(head(**fields)) is None


@pytest.mark.parametrize(
    "wrong",
    [
        head(Sec_WebSocket_Key="short"),
        head(Sec_WebSocket_Key="é" * 24),
        head(Sec_WebSocket_Version="12"),
        head(Content_Length="3"),
        head(Transfer_Encoding="chunked"),
        head("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
        head(*(f"X-{number}: 1" for number in range(200))),
        head(target="/?" + "&".join(f"{number}=1" for number in range(200))),
        head().replace(b"HTTP/1.1", b"HTTP/1.0"),
        head().replace(b"GET", b"POST"),
        b"GET\r\nUpgrade: websocket",
    ],
)
def test_what_is_no_proper_handshake_is_refused(wrong: bytes) -> None:
    with pytest.raises(HeadError):
        read_handshake(wrong)


@given(
    st.binary(max_size=600)
    | st.lists(st.sampled_from(head().split(b"\r\n")) | st.binary(max_size=30)).map(
        b"\r\n".join
    )
)
def test_any_bytes_can_be_looked_at(data: bytes) -> None:
    wants_websocket(data)
    try:
        read = read_handshake(data)
    except HeadError:
        return
    assert read is None or len(read.key) == 24


@given(st.text(max_size=200))
def test_any_query_can_be_read(text: str) -> None:
    for name, value in read_query(text).items():
        assert isinstance(name, str) and isinstance(value, str)


@given(st.text(max_size=60))
def test_any_text_may_be_an_address(text: str) -> None:
    read_address(text)
    assert text not in Networks(["10.0.0.0/8"]) or read_address(text) is not None


PROXIES = Networks(["10.0.0.0/8", "fd00::/8"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        # Who is no proxy says what it likes.
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        # What the client itself sent stands further left.
        ("10.0.0.1", ["6.6.6.6, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["6.6.6.6, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["::ffff:198.51.100.7"], "198.51.100.7"),
        ("fd00::1", ["2001:db8::7"], "2001:db8::7"),
        ("10.0.0.1", ["10.0.0.2"], "10.0.0.2"),
    ],
)
def test_only_proxies_of_ours_are_believed(
    peer: str, forwarded: list[str], client: str
) -> None:
    assert PROXIES.client(peer, forwarded) == client


def test_one_customer_counts_as_one() -> None:
    assert household("192.0.2.1") == "192.0.2.1"
    assert household("2001:db8:1:2::3") == household("2001:db8:1:2:ffff::4")
    assert household("2001:db8:1:2::3") != household("2001:db8:1:3::3")
    assert plain_address("::ffff:192.0.2.1") == "192.0.2.1"
    assert plain_address("fe80::1%eth0") == "fe80::1"


@pytest.mark.parametrize(
    ("host", "local", "port", "secure", "origin"),
    [
        ("192.0.2.1:9000", "192.0.2.1", 9000, False, "http://192.0.2.1:9000"),
        ("192.0.2.1:9000", "192.0.2.1", 9000, True, "https://192.0.2.1:9000"),
        ("192.0.2.1", "192.0.2.1", 443, True, "https://192.0.2.1"),
        ("192.0.2.1:443", "192.0.2.1", 443, True, "https://192.0.2.1"),
        ("[2001:db8::1]:9000", "2001:db8::1", 9000, False, "http://[2001:db8::1]:9000"),
        ("LOCALHOST:9000", "127.0.0.1", 9000, False, "http://localhost:9000"),
        ("localhost:9000", "192.0.2.1", 9000, False, ""),
        ("192.0.2.9:9000", "192.0.2.1", 9000, False, ""),
        ("192.0.2.1:9001", "192.0.2.1", 9000, False, ""),
        ("signal.example:9000", "192.0.2.1", 9000, False, ""),
        ("192.0.2.1:9000/evil", "192.0.2.1", 9000, False, ""),
        ("", "192.0.2.1", 9000, False, ""),
    ],
)
def test_without_origins_only_literal_addresses_are(
    host: str, local: str, port: int, secure: bool, origin: str
) -> None:
    assert (
        Origins(()).seen_by(host, local, port, secure=secure, proxied=False) == origin
    )


@given(st.text(max_size=40))
def test_no_host_makes_up_an_origin(host: str) -> None:
    own = ("https://signal.example",)
    assert (
        Origins(own).seen_by(host, "192.0.2.1", 9000, secure=False, proxied=True) in own
    )
    assert Origins(own).seen_by(
        host, "192.0.2.1", 9000, secure=False, proxied=False
    ) in (*own, "http://192.0.2.1:9000")
    assert Origins(()).seen_by(
        host, "192.0.2.1", 9000, secure=False, proxied=False
    ) in (
        "",
        "http://192.0.2.1:9000",
    )
