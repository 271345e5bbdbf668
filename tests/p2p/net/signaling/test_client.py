"""A home at signalling servers: the project's own and npm's PeerServer, which are real ones, and others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
import contextlib
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
import json
from pathlib import Path
import ssl
from typing import Any

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, strategies as st
import pytest

from p2p.core.backoff import Backoff
from p2p.models.homes import ServerStatus
from p2p.models.servers import server_url
from p2p.net.signaling import client as signaling, session as conversation
from tests.patience import until

from .servers import (
    FOREVER,
    HOST,
    Home,
    Program,
    Wire,
    acting,
    nothing_left,
    running,
    signalling_server,
    somebody,
    stock_server,
    talk,
)


@pytest.fixture(autouse=True)
async def nothing_is_left() -> AsyncGenerator[None]:
    async with nothing_left():
        yield


@pytest.fixture
async def session() -> AsyncGenerator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
async def own(tmp_path: Path) -> AsyncGenerator[Program]:
    options = ("--expire-timeout", "0.1", "--turn-secret", "s" * 20)
    async with running(signalling_server(tmp_path, *options)) as program:
        yield program


@pytest.fixture
async def stock(tmp_path: Path) -> AsyncGenerator[Program]:
    async with running(
        stock_server(tmp_path, expire_timeout=100, cleanup_out_msgs=50)
    ) as program:
        yield program


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signaling, "MIN_RETRY_PAUSE", 0.01)
    monkeypatch.setattr(signaling, "MAX_RETRY_PAUSE", 0.05)
    monkeypatch.setattr(signaling, "ATTEMPT_INTERVAL", 0.0)


@pytest.fixture
def quick_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "FIRST_HEARTBEAT_DELAY", 0.05)
    monkeypatch.setattr(conversation, "HEARTBEAT_INTERVAL", 0.05)
    monkeypatch.setattr(conversation, "PING_DELAY", 0.05)


# At the project's own server


async def test_two_homes_send_each_other_messages(
    own: Program, session: aiohttp.ClientSession
) -> None:
    async with Home(own.url, session) as one, Home(own.url, session) as other:
        await one.connected()
        await other.connected()

        await talk(one, other)

        assert one.server.status == ServerStatus(
            url=own.url, connected=True, identity=True, turn=True
        )
        assert (one.server.is_lan, one.server.origin) == (False, HOST)


async def test_a_home_that_is_not_there_is_told(
    own: Program, session: aiohttp.ClientSession
) -> None:
    nobody = somebody().id
    async with Home(own.url, session) as home:
        await home.connected()

        assert home.server.send(nobody, {"sdp": "offer"})

        await until(lambda: home.missing)
        assert home.missing == [nobody]
        assert home.received == []


async def test_what_waited_for_a_home_reaches_it(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    later = somebody()
    async with (
        running(signalling_server(tmp_path, "--expire-timeout", "60")) as own,
        Home(own.url, session) as one,
    ):
        await one.connected()
        one.server.send(later.id, {"sdp": "early"})
        async with Home(own.url, session, later) as other:
            await until(lambda: other.received)

            assert other.received == [(one.id, {"sdp": "early"})]


async def test_a_server_may_have_a_path(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with running(signalling_server(tmp_path, "--path", "/some/where/")) as own:
        url = f"{own.url}some/where"
        async with Home(url, session) as one, Home(url, session) as other:
            await one.connected()
            await other.connected()

            await talk(one, other)

            assert one.server.status.url == f"{url}/"


@pytest.mark.usefixtures("no_pauses")
async def test_a_killed_server_is_come_back_to(
    own: Program, session: aiohttp.ClientSession
) -> None:
    async with Home(own.url, session) as one, Home(own.url, session) as other:
        await one.connected()
        await other.connected()

        await own.kill()
        await one.told("broke")
        await one.told("cannot be reached: Connection refused")
        assert not one.server.send(other.id, {"sdp": "offer"})
        await own.start()

        await one.connected()
        await other.connected()
        await talk(one, other)
        assert one.server.status.message is None


@pytest.mark.usefixtures("no_pauses")
async def test_a_server_that_stops_says_so(
    own: Program, session: aiohttp.ClientSession
) -> None:
    async with Home(own.url, session) as home:
        await home.connected()

        await own.stop()

        await home.told("stopping or restarting")


async def test_one_that_is_down_is_tried_at_once_when_somebody_says_so(
    own: Program, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    await own.kill()
    monkeypatch.setattr(Backoff, "failed", lambda _: FOREVER)
    async with Home(own.url, session) as home:
        await home.told("Connection refused")
        await own.start()
        assert not home.is_connected

        home.server.wake()

        await home.connected()


@contextlib.asynccontextmanager
async def wired(folder: Path) -> AsyncGenerator[Wire]:
    """Have a wire that leads to the project's own server."""
    async with Wire() as wire:
        origin = wire.url.removesuffix("/")
        async with running(signalling_server(folder, "--origins", origin)) as own:
            wire.port = own.port
            yield wire


@pytest.mark.usefixtures("no_pauses", "quick_heartbeats")
async def test_a_connection_that_nothing_comes_through_is_noticed(
    tmp_path: Path, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "SILENCE_TIMEOUT", 1.0)
    async with wired(tmp_path) as wire, Home(wire.url, session) as home:
        await home.connected()

        wire.cut()

        await home.told("silent for too long")
        await home.connected()


@pytest.mark.usefixtures("quick_heartbeats")
async def test_a_server_that_has_nothing_to_say_answers_when_it_is_asked(
    own: Program, session: aiohttp.ClientSession
) -> None:
    async with Home(own.url, session) as home:
        await home.connected()
        talking = home.server._current
        assert talking is not None

        for _ in range(3):
            heard = talking._heard
            await until(lambda before=heard: talking._heard > before)


@pytest.mark.usefixtures("no_pauses")
async def test_a_connection_that_is_doubted_is_looked_at(
    tmp_path: Path, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "SILENCE_TIMEOUT", FOREVER)
    monkeypatch.setattr(conversation, "PROBE_TIMEOUT", 1.0)
    async with wired(tmp_path) as wire, Home(wire.url, session) as home:
        await home.connected()
        talking = home.server._current
        assert talking is not None
        heard = talking._heard
        home.server.wake()
        await until(lambda: talking._heard > heard)
        assert home.is_connected

        wire.cut()
        home.server.wake()

        await home.told("silent for too long")
        await home.connected()


async def test_a_clone_takes_over_and_the_first_does_not_fight(
    own: Program, session: aiohttp.ClientSession
) -> None:
    async with Home(own.url, session) as third, Home(own.url, session) as first:
        await third.connected()
        await first.connected()
        async with Home(own.url, session, first.identity) as clone:
            await until(lambda: first.server.superseded)
            await clone.connected()
            await first.told("Another client uses this home's ID")

            first.server.wake()
            await talk(third, clone)
            first.server.wake()
            await talk(third, clone)
            assert not first.is_connected
            assert not first.received

            first.server.resume()

            await first.connected()
            await until(lambda: clone.server.superseded)
            assert not first.server.superseded
            await talk(third, first)


async def test_who_is_superseded_can_be_stopped(
    own: Program, session: aiohttp.ClientSession
) -> None:
    async with Home(own.url, session) as first:
        await first.connected()
        async with Home(own.url, session, first.identity):
            await until(lambda: first.server.superseded)


async def test_a_home_whose_former_connection_is_not_known_to_be_dead_is_let_in(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    identity = somebody()
    async with wired(tmp_path) as wire:
        async with Home(wire.url, session, identity) as home:
            await home.connected()
            wire.cut()
        async with Home(wire.url, session, identity) as home:
            await home.connected()

            assert not home.server.superseded


# Proofs


def relaying(
    own: Program, told: list[dict[str, Any]], origin: Callable[[str], str]
) -> Callable[[web.WebSocketResponse, web.Request], Awaitable[None]]:
    """Return what somebody does who sits between homes and a server, and may tell them another origin."""

    async def script(ws: web.WebSocketResponse, request: web.Request) -> None:
        url = f"{own.url}peerjs?{request.query_string}"
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url) as there,
        ):
            challenge = await there.receive_json()
            challenge["payload"]["origin"] = origin(challenge["payload"]["origin"])
            await ws.send_json(challenge)
            async for message in ws:
                said = json.loads(message.data)
                told.append(said)
                await there.send_json(said)
                if said["type"] == "PROVE":
                    ended = await there.receive()
                    told.append({"type": "end", "code": ended.data})
                    await ws.close(code=4004)

    return script


async def test_a_proof_for_another_server_is_not_given(
    own: Program, session: aiohttp.ClientSession
) -> None:
    told: list[dict[str, Any]] = []
    async with (
        acting(relaying(own, told, lambda origin: origin)) as stage,
        Home(stage.url, session) as home,
    ):
        await home.told(
            f"address is {own.url.removesuffix('/')} by its own account, but"
        )

    assert not any(said["type"] == "PROVE" for said in told)


async def test_a_proof_for_one_server_is_of_no_use_at_another(
    own: Program, session: aiohttp.ClientSession
) -> None:
    told: list[dict[str, Any]] = []
    async with (
        acting(relaying(own, told, lambda _: stage.url.removesuffix("/"))) as stage,
        Home(stage.url, session) as home,
    ):
        await home.told("rejected this home's proof")

    assert [said["type"] for said in told] == ["PROVE", "end"]
    assert told[1]["code"] == 4004


# TURN


async def test_credentials_are_handed_out_and_kept(
    own: Program, session: aiohttp.ClientSession
) -> None:
    async with Home(own.url, session) as home:
        assert await home.server.ice_servers() == ()
        await home.connected()

        stun, turn = await home.server.ice_servers()

        place = f"{HOST}:3478"
        assert stun.urls == (f"stun:{place}",)
        assert turn.urls == (
            f"turn:{place}?transport=udp",
            f"turn:{place}?transport=tcp",
        )
        assert turn.username
        assert turn.credential
        assert (await home.server.ice_servers())[1] is turn
        await own.kill()
        await home.told("broke")
        assert (await home.server.ice_servers())[1] is turn


async def test_many_who_want_credentials_get_the_same(
    own: Program, session: aiohttp.ClientSession
) -> None:
    async with Home(own.url, session) as home:
        await home.connected()

        answers = await asyncio.gather(*[home.server.ice_servers() for _ in range(20)])

        assert len(answers[0]) == 2
        assert all(answer is answers[0] for answer in answers)


async def test_a_server_out_there_does_not_send_homes_into_their_own_networks(
    own: Program, session: aiohttp.ClientSession
) -> None:
    async with Home(own.url, session) as home:
        await home.connected()
        talking = home.server._current
        assert talking is not None
        # It is on this machine, as its TURN server is.
        assert not talking.is_public
        talking.is_public = True

        assert await home.server.ice_servers() == ()


async def test_who_does_not_want_them_any_more_takes_them_from_nobody(
    own: Program, session: aiohttp.ClientSession
) -> None:
    async with Home(own.url, session) as home:
        await home.connected()
        impatient = asyncio.create_task(home.server.ice_servers())
        patient = asyncio.create_task(home.server.ice_servers())
        await asyncio.sleep(0)

        impatient.cancel()

        assert len(await patient) == 2


async def test_a_session_that_is_not_taken_any_more_is_renewed(
    own: Program, session: aiohttp.ClientSession
) -> None:
    async with Home(own.url, session) as home:
        await home.connected()
        talking = home.server._current
        assert talking is not None
        talking.session = "of-yesterday"

        assert len(await home.server.ice_servers()) == 2

        assert talking.session != "of-yesterday"


@pytest.mark.usefixtures("quick_heartbeats")
async def test_a_session_is_renewed_before_it_ends(
    own: Program, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "validity", lambda _: 0.2)
    async with Home(own.url, session) as home:
        await home.connected()
        talking = home.server._current
        assert talking is not None
        talking.session = None

        await until(lambda: talking.session)


async def test_no_credentials_come_from_who_has_none(
    stock: Program, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with (
        running(signalling_server(tmp_path)) as own,
        Home(stock.url, session) as one,
        Home(own.url, session) as other,
    ):
        await one.connected()
        await other.connected()

        assert await one.server.ice_servers() == ()
        assert await other.server.ice_servers() == ()
        assert not other.server.status.turn


# At npm's PeerServer


async def test_two_homes_send_each_other_messages_through_a_stock_server(
    stock: Program, session: aiohttp.ClientSession
) -> None:
    async with Home(stock.url, session) as one, Home(stock.url, session) as other:
        await one.connected()
        await other.connected()

        await talk(one, other)

        assert one.server.status == ServerStatus(url=stock.url, connected=True)


async def test_a_stock_server_tells_of_a_home_that_is_not_there(
    stock: Program, session: aiohttp.ClientSession
) -> None:
    nobody = somebody().id
    async with Home(stock.url, session) as home:
        await home.connected()

        home.server.send(nobody, {"sdp": "offer"})

        await until(lambda: home.missing == [nobody])


@pytest.mark.usefixtures("no_pauses")
async def test_an_id_that_somebody_else_has_is_waited_for(
    stock: Program, session: aiohttp.ClientSession
) -> None:
    identity = somebody()
    query = f"key=peerjs&id={identity.id}&token=another"
    async with session.ws_connect(f"{stock.url}peerjs?{query}") as squatter:
        assert await squatter.receive_json() == {"type": "OPEN"}
        async with Home(stock.url, session, identity) as home:
            await home.told("has this home's ID at the server")

            await squatter.close()

            await home.connected()
            assert not home.server.superseded


@pytest.mark.usefixtures("no_pauses")
async def test_a_home_comes_back_to_a_stock_server_that_did_not_notice_that_it_was_gone(
    stock: Program, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "PROBE_TIMEOUT", 0.2)
    async with Wire() as wire, Home(stock.url, session) as other:
        wire.port = stock.port
        async with Home(wire.url, session) as home:
            await other.connected()
            await home.connected()
            wire.cut()
            home.server.wake()
            await home.told("silent for too long")

            await home.connected()

            await talk(other, home)


async def test_messages_of_who_is_no_home_are_left_out(
    stock: Program, session: aiohttp.ClientSession
) -> None:
    async with Home(stock.url, session) as one, Home(stock.url, session) as other:
        await one.connected()
        await other.connected()
        mistyped = other.id[:-1] + ("0" if other.id[-1] != "0" else "1")
        for name in ("stranger", other.id.lower(), mistyped):
            url = f"{stock.url}peerjs?key=peerjs&id={name}&token=t"
            async with session.ws_connect(url) as ws:
                assert await ws.receive_json() == {"type": "OPEN"}
                await ws.send_json({"type": "OFFER", "dst": one.id, "payload": {}})
                # When this is back, the server has passed on that one.
                await ws.send_json({"type": "CANDIDATE", "dst": name, "payload": {}})
                await ws.receive_json()

        await talk(other, one)


# Encryption


def certificate(folder: Path) -> tuple[Path, Path]:
    """Return the files of a certificate for this machine that nobody vouches for, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "of a test")])
    now = datetime.now(UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


async def test_a_certificate_has_to_be_right(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    public, private = certificate(tmp_path)
    options = ("--certificate", str(public), "--private-key", str(private))
    trusting = ssl.create_default_context(cafile=str(public))
    trusting.verify_flags &= ~ssl.VERIFY_X509_STRICT
    async with running(signalling_server(tmp_path, *options)) as own:
        url = own.url.replace("http:", "https:")
        async with Home(url, session) as home:
            await home.told("certificate is not valid")
        connector = aiohttp.TCPConnector(ssl=trusting)
        async with (
            aiohttp.ClientSession(connector=connector) as believing,
            Home(url, believing) as one,
            Home(url, believing) as other,
        ):
            await one.connected()
            await other.connected()
            await talk(one, other)
            assert one.server.status.identity


async def test_a_server_that_does_not_encrypt_is_not_spoken_to(
    session: aiohttp.ClientSession,
) -> None:
    async with (
        acting(opening) as stage,
        Home(stage.url.replace("http:", "https:"), session) as home,
    ):
        await home.told("An encrypted connection")


# Attempts


async def test_a_server_that_hangs_up_at_once_is_asked_less_and_less_often(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = []

    class Watched(Backoff):
        def failed(self) -> float:
            pauses.append(super().failed())
            return 0.0

    async def script(ws: web.WebSocketResponse, _: web.Request) -> None:
        await ws.send_json({"type": "OPEN"})

    monkeypatch.setattr(signaling, "Backoff", Watched)
    monkeypatch.setattr(signaling, "ATTEMPT_INTERVAL", 0.0)
    async with acting(script) as stage, Home(stage.url, session) as home:
        await until(lambda: len(pauses) > 10)

        assert home.messages.count(None) >= 9
    assert all(30 <= pause <= 60 for pause in pauses[8:])


async def test_a_connection_that_lasted_is_come_back_to_promptly(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = []

    class Watched(Backoff):
        def failed(self) -> float:
            pauses.append(super().failed())
            return 0.0

    async def script(ws: web.WebSocketResponse, _: web.Request) -> None:
        await ws.send_json({"type": "OPEN"})

    monkeypatch.setattr(signaling, "Backoff", Watched)
    monkeypatch.setattr(signaling, "ATTEMPT_INTERVAL", 0.0)
    monkeypatch.setattr(signaling, "STABLE_TIME", -1.0)
    async with acting(script) as stage, Home(stage.url, session):
        await until(lambda: len(pauses) > 10)

    assert all(pause <= 1 for pause in pauses)


async def test_to_wake_it_again_and_again_is_not_to_ask_again_and_again(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(ws: web.WebSocketResponse, _: web.Request) -> None:
        await ws.close(code=1013)

    monkeypatch.setattr(signaling, "ATTEMPT_INTERVAL", FOREVER)
    async with acting(script) as stage, Home(stage.url, session) as home:
        await home.told("overloaded")
        for _ in range(100):
            home.server.wake()
            await asyncio.sleep(0)

        assert stage.visits == 1


async def test_a_server_that_asks_to_be_left_alone_is(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    wait = signaling.SignalingServer._wait

    async def noted(self: signaling.SignalingServer, seconds: float) -> None:
        waits.append(seconds)
        await wait(self, seconds)

    async def script(ws: web.WebSocketResponse, _: web.Request) -> None:
        await ws.send_json({"type": "OPEN"})
        await ws.close(code=1001, message=b"500.5")

    monkeypatch.setattr(signaling.SignalingServer, "_wait", noted)
    async with acting(script) as stage, Home(stage.url, session) as home:
        await home.told("restarting")
        await until(lambda: waits)

    assert waits == [500.5]


async def test_one_server_that_is_down_does_not_disturb_the_other(
    own: Program, session: aiohttp.ClientSession
) -> None:
    async with (
        Home(f"http://{HOST}:1", session) as lonely,
        Home(own.url, session) as one,
        Home(own.url, session) as other,
    ):
        await lonely.told("cannot be reached")
        await one.connected()
        await other.connected()

        await talk(one, other)


async def test_a_name_that_nobody_has_is_told(session: aiohttp.ClientSession) -> None:
    async with Home("http://signal.invalid", session) as home:
        await home.told("name cannot be resolved")


async def test_what_a_listener_does_wrong_does_no_harm(
    own: Program, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    async with Home(own.url, session) as one, Home(own.url, session) as other:
        await one.connected()
        await other.connected()
        listener = other.server._on_message
        other.server._on_message = lambda home, sent: {}["nothing"]

        one.server.send(other.id, {"sdp": "offer"})
        await until(lambda: "could not be handled" in caplog.text)

        other.server._on_message = listener
        await talk(one, other)


@pytest.mark.usefixtures("no_pauses")
async def test_an_unforeseen_fault_is_not_the_end(
    own: Program,
    session: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def failing(self: signaling.SignalingServer) -> None:
        raise ZeroDivisionError

    home = Home(own.url, session)
    with monkeypatch.context() as patched:
        patched.setattr(signaling.SignalingServer, "_connect", failing)
        home.server.start()
        await home.told("unexpected error")
    await home.connected()
    await home.server.stop()

    assert "ZeroDivisionError" in caplog.text


async def test_no_proxy_is_used_that_nobody_asked_for(
    own: Program, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{HOST}:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with Home(own.url, session) as home:
        await home.connected()


async def test_nothing_that_is_meant_for_others_goes_to_a_server() -> None:
    seen: list[Any] = []

    async def script(ws: web.WebSocketResponse, request: web.Request) -> None:
        seen.append((dict(request.cookies), request.headers.get("X-Secret")))
        await opening(ws, request)

    async def describe(_: web.Request) -> web.Response:
        answer = web.json_response({})
        answer.set_cookie("tracked", "yes")
        return answer

    async with (
        aiohttp.ClientSession(
            headers={"X-Secret": "s"},
            cookies={"a": "b"},
            cookie_jar=aiohttp.CookieJar(unsafe=True),
        ) as session,
        acting(script) as stage,
    ):
        stage.description = describe
        async with Home(stage.url, session) as home:
            await home.connected()

    assert seen == [({}, None)]


# What is answered over HTTP


async def opening(ws: web.WebSocketResponse, _: web.Request) -> None:
    """Let in whoever comes."""
    await ws.send_json({"type": "OPEN"})
    while not ws.closed:
        await ws.receive()


async def proven(ws: web.WebSocketResponse, request: web.Request) -> None:
    """Let in whoever answers a challenge, whatever the answer is."""
    payload = {"nonce": "A" * 43, "origin": f"http://{request.host}"}
    await ws.send_json({"type": "CHALLENGE", "payload": payload})
    await ws.receive()
    await ws.send_json({"type": "OPEN", "payload": {"session": "s", "expires": 1}})
    while not ws.closed:
        await ws.receive()


async def missing(_: web.Request) -> web.StreamResponse:
    return web.Response(status=404)


async def page(_: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>" * 100_000, content_type="text/html")


async def elsewhere(_: web.Request) -> web.StreamResponse:
    return web.Response(status=307, headers={"Location": "/peerjs"})


async def packed(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"\x1f\x8bbomb", headers={"Content-Encoding": "gzip"})


async def late(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(FOREVER)
    raise AssertionError


async def endless(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    while True:
        await answer.write(b" ")
        await asyncio.sleep(0.05)


async def unauthorized(_: web.Request) -> web.StreamResponse:
    return web.Response(status=401)


async def nonsense(_: web.Request) -> web.StreamResponse:
    return web.json_response({"iceServers": [{"urls": ["http://inside"]}]})


async def huge(_: web.Request) -> web.StreamResponse:
    servers = [{"urls": ["stun:host"], "filler": "x" * 100_000}]
    return web.json_response({"iceServers": servers})


@pytest.mark.parametrize(
    "described",
    [
        [],
        None,
        7,
        {"features": "turn"},
        {"features": {"turn": True}},
        {"features": [["turn"], {"turn": 1}, None, 5]},
        {"features": ["x"] * 100 + ["turn"]},
        {"features": ["turn"], "more": "x" * 70_000},
        {"name": "PeerJS Server"},
        missing,
        page,
        elsewhere,
        packed,
    ],
)
async def test_a_server_need_not_describe_itself(
    described: object, session: aiohttp.ClientSession
) -> None:
    async with acting(opening) as stage:
        stage.description = described
        async with Home(stage.url, session) as home:
            await home.connected()

            assert home.server.status == ServerStatus(url=stage.url, connected=True)
            assert stage.visits == 1


@pytest.mark.parametrize("described", [late, endless])
async def test_a_description_that_does_not_come_is_not_waited_for(
    described: Callable[[web.Request], Awaitable[web.StreamResponse]],
    session: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signaling, "CONNECT_TIMEOUT", 0.3)
    async with acting(opening) as stage:
        stage.description = described
        async with Home(stage.url, session) as home:
            await home.told("did not answer in time")

        assert stage.visits == 0


async def test_nobody_is_followed_elsewhere(session: aiohttp.ClientSession) -> None:
    async with acting(opening) as other, acting(opening) as stage:

        async def redirect(request: web.Request) -> web.StreamResponse:
            where = f"{other.url}peerjs?{request.query_string}"
            return web.Response(status=307, headers={"Location": where})

        stage.refuse = redirect
        async with Home(stage.url, session) as home:
            await home.told("redirects to another address")

        assert (other.visits, stage.visits) == (0, 0)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (200, "rejects this home (HTTP status 200)"),
        (404, "no signalling server at this address"),
        (429, "fewer requests"),
        (503, "HTTP status 503"),
    ],
)
async def test_a_server_that_gives_no_websocket_is_not_connected_to(
    status: int, message: str, session: aiohttp.ClientSession
) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    async with acting(opening) as stage:
        stage.refuse = refuse
        async with Home(stage.url, session) as home:
            await home.told(message)

            assert not home.is_connected


@pytest.mark.parametrize(
    "turn", [late, endless, unauthorized, missing, nonsense, huge, elsewhere]
)
async def test_a_server_that_hands_out_nothing_is_not_asked_all_the_time(
    turn: Callable[[web.Request], Awaitable[web.StreamResponse]],
    session: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = 0

    async def counted(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return await turn(request)

    monkeypatch.setattr(signaling, "TURN_TIMEOUT", 0.3)
    async with acting(proven) as stage:
        stage.description = {"features": ["identity", "turn"]}
        stage.turn = counted
        async with Home(stage.url, session) as home:
            await home.connected()

            assert await home.server.ice_servers() == ()
            await until(lambda: home.server._asking is None)
            assert await home.server.ice_servers() == ()

    assert asked == 1


async def test_it_can_be_stopped_while_it_asks_for_credentials(
    session: aiohttp.ClientSession,
) -> None:
    begun = asyncio.Event()

    async def mute(request: web.Request) -> web.StreamResponse:
        begun.set()
        return await late(request)

    async with acting(proven) as stage:
        stage.description = {"features": ["identity", "turn"]}
        stage.turn = mute
        async with Home(stage.url, session) as home:
            await home.connected()
            asking = asyncio.create_task(home.server.ice_servers())
            await begun.wait()

        assert await asking == ()


# Being stopped


async def test_one_that_was_never_started_can_be_stopped(
    session: aiohttp.ClientSession,
) -> None:
    home = Home("http://signal.invalid", session)

    await home.server.stop()
    await home.server.stop()

    assert not home.server.send(somebody().id, {})
    assert await home.server.ice_servers() == ()


async def test_it_can_be_stopped_while_it_connects(
    session: aiohttp.ClientSession,
) -> None:
    asked = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(mute, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Home(f"http://{HOST}:{port}", session) as home:
            await asked.wait()

        assert not home.is_connected


@pytest.mark.parametrize("words", [0, 1])
async def test_it_can_be_stopped_while_it_proves_who_it_is(
    words: int, session: aiohttp.ClientSession
) -> None:
    asked = asyncio.Event()

    async def script(ws: web.WebSocketResponse, request: web.Request) -> None:
        payload = {"nonce": "A" * 43, "origin": f"http://{request.host}"}
        await ws.send_json({"type": "CHALLENGE", "payload": payload})
        for _ in range(words):
            await ws.receive()
        asked.set()
        while not ws.closed:
            await ws.receive()

    async with acting(script) as stage:
        async with Home(stage.url, session) as home:
            await asked.wait()

        assert not home.is_connected


async def test_it_can_be_stopped_while_it_waits(
    session: aiohttp.ClientSession,
) -> None:
    async with Home(f"http://{HOST}:1", session) as home:
        await home.told("cannot be reached")


async def test_it_can_be_started_again(
    own: Program, session: aiohttp.ClientSession
) -> None:
    async with Home(own.url, session) as other:
        home = Home(own.url, session)
        for _ in range(3):
            home.server.start()
            await home.connected()
            await other.connected()
            await talk(home, other)
            await home.server.stop()
            assert not home.is_connected


# Addresses


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("https://signal.example", "https://signal.example/"),
        ("  HTTPS://Signal.Example:443/ ", "https://signal.example/"),
        ("http://10.0.0.5:9000/peers", "http://10.0.0.5:9000/peers/"),
        ("http://[2001:DB8:0::1]:9000", "http://[2001:db8::1]:9000/"),
        ("https://b\u00fccher.example/a/", "https://xn--bcher-kva.example/a/"),
        ("http://homeassistant", "http://homeassistant/"),
        ("http://host/a/./b", "http://host/a/b/"),
    ],
)
def test_an_address_is_kept_in_one_way(typed: str, kept: str) -> None:
    assert server_url(typed) == kept
    assert server_url(kept) == kept


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("signal.example", "begin with https"),
        ("wss://signal.example", "begin with https"),
        ("ftp://signal.example", "begin with https"),
        ("", "begin with https"),
        ("https:signal.example", "begin with https"),
        ("https://", "name a host"),
        ("https:///path", "name a host"),
        ("https://me@signal.example", "user name"),
        ("https://me:secret@signal.example", "user name"),
        ("https://signal.example?key=x", "nothing behind"),
        ("https://signal.example/?", "nothing behind"),
        ("https://signal.example/#", "nothing behind"),
        ("https://signal.example/#part", "nothing behind"),
        ("https://signal.example/" + "x" * 500, "too long"),
        ("https://signal..example", "name a host"),
        ("https://signal.example.", "name a host"),
        ("https://-signal.example", "name a host"),
        ("https://" + "a" * 64, "name a host"),
        ("https://" + "a." * 130 + "b", "name a host"),
        ("https://[fe80::1%25eth0]/", "name a host"),
        ("https://[::1/", "not an address"),
        ("https://signal.example:0", "name a host"),
        ("https://signal.example:70000", "not an address"),
        ("https://signal.example:x", "not an address"),
        ("https://signal\\.example", "not an address"),
        ("https://signal.example/a b", "path"),
        ("https://signal.example/a%2fb", "path"),
        ("https://signal.example//a", "path"),
        ("https://signal.example/\u00e4", "path"),
        ("https://signal.example/a\x00", "path"),
    ],
)
def test_what_is_no_address_is_refused_in_words(typed: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        server_url(typed)


@given(
    st.text(max_size=30)
    | st.text(alphabet="htps:/@.[]%?#-\\ a1\u00e9\uff0f", max_size=30)
)
def test_whatever_is_typed_is_an_address_or_refused(text: str) -> None:
    for scheme in ("", "http://", "https://host/", "https://"):
        try:
            kept = server_url(scheme + text)
        except ValueError:
            pass
        else:
            assert server_url(kept) == kept
            assert kept.startswith(("http://", "https://"))
            assert kept.endswith("/")
            assert not set(kept) & set("@?# \\%")
