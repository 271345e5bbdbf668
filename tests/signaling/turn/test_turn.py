"""TURN: who gets credentials, and what coturn lets them do. The coturn is a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_interface
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
import pytest

from pemus_signaling.cluster.cluster import Cluster, StoreAwayError
from pemus_signaling.identity.ids import pemus_id
from pemus_signaling.identity.sessions import Sessions
from pemus_signaling.net.interfaces import Interface, own_addresses
from pemus_signaling.rooms.tokens import Revocations, RoomToken
from pemus_signaling.settings import Settings
from pemus_signaling.turn import configuration, coturn as module
from pemus_signaling.turn.configuration import CoturnSettings, denied_networks
from pemus_signaling.turn.coturn import Coturn
from pemus_signaling.turn.credentials import LIFE, Turn
from pemus_signaling.turn.host import TurnHost
from tests.patience import PATIENCE, until
from tests.signaling.signing import sign
from tests.signaling.turn.turn_client import (
    TCP,
    TurnClient,
    TurnError,
    password,
    turn_client,
)

SECRET = "0123456789abcdef-of-this-test"
HOME = "127.0.0.1"
ROOM = "baku-timo-rosa-lufi"

REFUSED_IPV4 = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.8.9.10",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.168.0.1", "192.168.255.255", "198.18.0.1",
    "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
]  # fmt: skip
GRANTED_IPV4 = [
    "1.1.1.1",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.1.1",
    "223.255.255.1",
]
REFUSED_IPV6 = [
    "::", "::1", "::2", "::ffff:127.0.0.1", "::ffff:192.168.1.1", "::ffff:10.0.0.0", "::ffff:8.8.8.8", "::127.0.0.1", "::192.168.1.0",
    "64:ff9b::192.168.1.1", "64:ff9b::8.8.8.8", "64:ff9b:1::1", "100::1", "fc00::1", "fd12:3456::1", "fdff:ffff::1", "fe80::1", "febf::1",
    "fec0::1", "ff02::1", "ff05::2", "2001::1", "2001:0:c0a8:101::1", "2001:db8::1", "2002:c0a8:0101::1", "2002:7f00:1::", "3fff::1", "4000::1",
]  # fmt: skip
GRANTED_IPV6 = [
    "2001:4860:4860::8888",
    "2606:4700:4700::1111",
    "2a00:1450::1",
    "2003::1",
    "2400::1",
]


def free_port() -> int:
    """Return a port that nobody listens at."""
    while True:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket() as tcp,
        ):
            udp.bind((HOME, 0))
            port = int(udp.getsockname()[1])
            try:
                tcp.bind((HOME, port))
            except OSError:
                continue
            return port


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder that coturn may enter, too: it does not run as root."""
    with tempfile.TemporaryDirectory(prefix="pemus-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@asynccontextmanager
async def running(program: Path, **changes: Any) -> AsyncIterator[tuple[Coturn, int]]:
    """Run a coturn, and wait until it answers."""
    port = free_port()
    values = {
        "listen": (HOME,),
        "relay": (HOME, "::1"),
        "min_port": 45000,
        "max_port": 45999,
        **changes,
    }
    coturn = Coturn(CoturnSettings(SECRET, port=port, program=str(program), **values))
    await coturn.start()
    try:
        await until(lambda: coturn.is_ready)
        yield coturn, port
    finally:
        await coturn.close()
    assert not coturn.is_ready


def credentials(user: str = "somebody", lasts: float = LIFE) -> tuple[str, str]:
    name = f"{int(time.time() + lasts)}:{user}"
    return name, password(SECRET, name)


@asynccontextmanager
async def allocated(port: int, family: int = 4) -> AsyncIterator[TurnClient]:
    async with turn_client(HOME, port, *credentials()) as client:
        await client.allocate(family=family)
        yield client


async def refusal(asked: Any) -> int:
    """Return the code of the error that an answer is, 0 if it is none."""
    try:
        await asked
    except TurnError as error:
        return error.code
    return 0


async def test_an_address_is_told_to_anybody(coturn_program: Path) -> None:
    async with running(coturn_program) as (_, port), turn_client(HOME, port) as client:
        host, _ = await client.binding()

        assert host == HOME
        assert client.with_fingerprint


async def test_an_allocation_is_made_with_credentials(
    coturn_program: Path,
) -> None:
    async with (
        running(coturn_program) as (_, port),
        turn_client(HOME, port, *credentials()) as client,
    ):
        host, relayed = await client.allocate()

        assert host == HOME
        assert 45000 <= relayed <= 45999
        await client.refresh(600)
        await client.refresh(0)
        assert client.with_fingerprint


async def test_wrong_or_expired_credentials_make_no_allocation(
    coturn_program: Path,
) -> None:
    name, good = credentials()
    late, once_good = credentials(lasts=-60)
    async with running(coturn_program) as (_, port):
        for username, credential in [
            (name, "wrong"),
            (name, ""),
            ("", ""),
            (name + "x", good),
            (late, once_good),
            (name, once_good),
            ("somebody", password(SECRET, "somebody")),
            (name, password("another secret", name)),
        ]:
            async with turn_client(HOME, port, username, credential) as client:
                assert await refusal(client.allocate()) == 401, username


async def test_private_peers_are_refused_in_ipv4(coturn_program: Path) -> None:
    async with running(coturn_program) as (_, port), allocated(port) as client:
        for number, peer in enumerate(REFUSED_IPV4):
            assert await refusal(client.permit(peer)) == 403, peer
            assert await refusal(client.bind(peer, channel=0x4000 + number)) == 403, (
                peer
            )
        for number, peer in enumerate(GRANTED_IPV4):
            assert await refusal(client.permit(peer)) == 0, peer
            assert await refusal(client.bind(peer, channel=0x4100 + number)) == 0, peer


async def test_private_peers_are_refused_in_ipv6_whatever_they_are_dressed_as(
    coturn_program: Path,
) -> None:
    async with running(coturn_program) as (_, port), allocated(port, 6) as client:
        for number, peer in enumerate(REFUSED_IPV6):
            assert await refusal(client.permit(peer)) in (403, 443), peer
            assert await refusal(client.bind(peer, channel=0x4000 + number)) in (
                403,
                443,
            ), peer
        for number, peer in enumerate(GRANTED_IPV6):
            assert await refusal(client.permit(peer)) == 0, peer
            assert await refusal(client.bind(peer, channel=0x4100 + number)) == 0, peer


async def test_networks_of_this_machine_are_refused_though_they_are_public(
    coturn_program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = own_addresses() | {
        ip_interface("11.22.33.44/24"),
        ip_interface("2a00:1450:1:2::3/64"),
    }
    monkeypatch.setattr(configuration, "own_addresses", lambda: own)
    async with running(coturn_program) as (_, port):
        async with allocated(port) as client:
            assert await refusal(client.permit("11.22.33.99")) == 403
            assert await refusal(client.permit("11.22.34.99")) == 0
        async with allocated(port, 6) as client:
            assert await refusal(client.permit("2a00:1450:1:2:ffff::")) == 403
            assert await refusal(client.permit("2a00:1450:1:3::")) == 0


async def test_the_public_address_of_a_router_is_no_way_back_in(
    coturn_program: Path,
) -> None:
    async with (
        running(coturn_program, external_ip="9.9.9.10") as (_, port),
        turn_client(HOME, port, *credentials()) as client,
    ):
        host, _ = await client.allocate()

        assert host == "9.9.9.10"
        assert await refusal(client.permit("9.9.9.10")) == 403
        assert await refusal(client.permit("9.9.9.11")) == 0


async def test_a_packet_does_not_reach_a_private_peer(coturn_program: Path) -> None:
    loop = asyncio.get_running_loop()
    arrived: list[bytes] = []

    class Service(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            arrived.append(data)

    transport, _ = await loop.create_datagram_endpoint(Service, local_addr=(HOME, 0))
    try:
        async with running(coturn_program) as (_, port), allocated(port) as client:
            with pytest.raises(TurnError):
                await client.permit(HOME)
            client.send(transport.get_extra_info("sockname"), b"for the television")
            # What is asked for later is answered later: by then the packet would be there.
            await client.refresh(600)
            assert arrived == []
    finally:
        transport.close()


async def test_no_tcp_is_relayed(coturn_program: Path) -> None:
    async with running(coturn_program) as (_, port):
        async with turn_client(HOME, port, *credentials()) as client:
            assert await refusal(client.allocate(transport=TCP)) in (400, 403, 442)
        async with allocated(port) as client:
            assert await refusal(client.connect("1.1.1.1", 80)) in (400, 403, 405, 437)


async def test_one_user_has_a_limited_number_of_allocations(
    coturn_program: Path,
) -> None:
    async with (
        running(coturn_program, user_quota=2) as (_, port),
        allocated(port),
        allocated(port),
    ):
        # Other credentials of the same one change nothing.
        async with turn_client(HOME, port, *credentials(lasts=LIFE + 5)) as third:
            assert await refusal(third.allocate()) == 486
        async with turn_client(HOME, port, *credentials("another")) as other:
            assert await refusal(other.allocate()) == 0


async def test_all_users_together_have_a_limited_number_of_allocations(
    coturn_program: Path,
) -> None:
    async with (
        running(coturn_program, total_quota=2) as (_, port),
        allocated(port),
        allocated(port),
        turn_client(HOME, port, *credentials("another")) as other,
    ):
        assert await refusal(other.allocate()) == 486


async def test_coturn_comes_back_when_it_ends(
    coturn_program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    async with running(coturn_program) as (coturn, port):
        (child,) = children()
        os.kill(child, signal.SIGKILL)
        await until(lambda: coturn.starts > 1 and coturn.is_ready)
        async with allocated(port) as client:
            await client.permit("1.1.1.1")


async def test_coturn_that_does_not_answer_is_replaced(
    coturn_program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "FIRST_PAUSE": 0.01,
        "CHECK_INTERVAL": 0.05,
        "PROBE_TIMEOUT": 0.2,
        "STOP_TIMEOUT": 0.2,
    }.items():
        monkeypatch.setattr(module, name, value)
    async with running(coturn_program) as (coturn, _):
        (child,) = children()
        os.kill(child, signal.SIGSTOP)
        await until(lambda: coturn.starts > 1 and coturn.is_ready)
        assert child not in children()


async def test_coturn_begins_anew_when_the_addresses_change(
    coturn_program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECK_INTERVAL", 0.05)
    async with running(coturn_program) as (coturn, port):
        changed = own_addresses() | {ip_interface("11.22.33.44/24")}
        monkeypatch.setattr(configuration, "own_addresses", lambda: changed)
        await until(lambda: coturn.starts > 1 and coturn.is_ready)
        async with allocated(port) as client:
            assert await refusal(client.permit("11.22.33.99")) == 403


async def test_a_link_local_address_that_comes_late_cuts_off_nobody(
    coturn_program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECK_INTERVAL", 0.05)
    looked = 0

    def changed() -> frozenset[Interface]:
        nonlocal looked
        looked += 1
        return own_addresses() | {ip_interface("fe80::1234/64")}

    async with running(coturn_program) as (coturn, _):
        monkeypatch.setattr(configuration, "own_addresses", changed)
        await until(lambda: looked >= 5)
        assert coturn.starts == 1
        assert coturn.is_ready


async def test_nothing_is_left_behind(
    coturn_program: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.tempfile, "tempdir", str(folder))
    async with running(coturn_program) as (_, port):
        (own,) = folder.iterdir()
        assert all(SECRET.encode() not in path.read_bytes() for path in own.iterdir())
        (child,) = children()
        assert SECRET not in Path(f"/proc/{child}/cmdline").read_text()

    assert children() == []
    assert list(folder.iterdir()) == []
    assert not await module.answers(HOME, port)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_coturn_ends_with_a_server_that_is_killed(
    coturn_program: Path, folder: Path, loop: str
) -> None:
    port = free_port()
    script = f"""
import asyncio, {loop}
from pemus_signaling.turn.configuration import CoturnSettings
from pemus_signaling.turn.coturn import Coturn
async def main():
    coturn = Coturn(CoturnSettings({SECRET!r}, port={port}, listen=({HOME!r},), relay=({HOME!r},), program={str(coturn_program)!r}))
    await coturn.start()
    while not coturn.is_ready:
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await asyncio.sleep(3600)
{loop}.run(main())
"""
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    try:
        assert server.stdout is not None
        async with asyncio.timeout(PATIENCE):
            assert await server.stdout.readline() == b"ready\n"
            (child,) = children(server.pid)
        server.kill()
        await server.wait()

        async def gone() -> bool:
            return not await module.answers(HOME, port)

        await until(gone)
        command = Path(f"/proc/{child}/cmdline")
        await until(lambda: not (command.exists() and command.read_text()))
    finally:
        if server.returncode is None:
            server.kill()
            await server.wait()


async def test_a_missing_coturn_is_named_and_tried_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.001)
    coturn = Coturn(CoturnSettings(SECRET, program="no-such-turnserver"))
    await coturn.start()
    await until(lambda: caplog.text.count("no-such-turnserver is not installed") >= 2)
    await coturn.close()
    assert not coturn.is_ready


async def test_a_coturn_that_cannot_start_says_why_and_not_its_secret(
    caplog: pytest.LogCaptureFixture, folder: Path
) -> None:
    program = folder / "turnserver"
    program.write_text(
        '#!/bin/sh\ncat "$2"; stat -c "mode %a" "$2"; echo "no such feature"; exit 3\n'
    )
    program.chmod(0o755)
    coturn = Coturn(
        CoturnSettings(
            SECRET,
            port=free_port(),
            listen=(HOME,),
            relay=(HOME,),
            program=str(program),
        )
    )
    await coturn.start()
    await until(lambda: "it ended with status 3" in caplog.text)
    await coturn.close()
    assert "no such feature" in caplog.text
    assert "mode 600" in caplog.text
    assert SECRET not in caplog.text


async def test_the_port_of_another_server_is_left_alone(
    coturn_program: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(coturn_program) as (_, port):
        second = Coturn(
            CoturnSettings(
                SECRET,
                port=port,
                listen=(HOME,),
                relay=(HOME,),
                program=str(coturn_program),
            )
        )
        await second.start()
        await until(lambda: f"another server has port {port}" in caplog.text)
        await second.close()


async def test_no_client_is_in_the_log(
    coturn_program: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with running(coturn_program) as (_, port), allocated(port) as client:
        with pytest.raises(TurnError):
            await client.permit("10.1.2.3")
        await client.permit("9.9.9.9")

    assert "somebody" not in caplog.text
    assert "10.1.2.3" not in caplog.text
    assert "9.9.9.9" not in caplog.text


@pytest.mark.parametrize(
    "bad",
    [
        {"secret": "short"},
        {"secret": "sixteen characters\nno-auth"},
        {"secret": 'with"a"quote' * 2},
        {"realm": ""},
        {"realm": "pemus\nno-auth"},
        {"external_ip": "home.example"},
        {"external_ip": "1.2.3.4\nno-auth"},
        {"listen": ("localhost",)},
        {"relay": ("::1\nno-auth",)},
    ],
)
def test_what_would_add_a_setting_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        CoturnSettings(**{"secret": SECRET, **bad})


def test_refused_networks_never_begin_with_the_address_that_coturn_takes_for_all() -> (
    None
):
    networks = denied_networks(
        [ip_interface("::1/0"), ip_interface("10.0.0.1/0"), *own_addresses()]
    )

    assert all(str(network[0]) != "::" for network in networks)
    assert all(network.prefixlen for network in networks)
    for address in REFUSED_IPV4 + [peer for peer in REFUSED_IPV6 if peer != "::"]:
        assert any(ip_address(address) in network for network in networks), address
    for address in GRANTED_IPV4 + GRANTED_IPV6:
        assert not any(ip_address(address) in network for network in networks), address


def test_this_machine_knows_its_addresses() -> None:
    addresses = own_addresses()

    assert ip_interface("127.0.0.1/8") in addresses
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside:
        try:
            outside.connect(("192.88.99.1", 9))
        except OSError:
            return  # A machine without a network.
        assert ip_address(outside.getsockname()[0]) in {
            address.ip for address in addresses
        }


def children(of: int | None = None) -> list[int]:
    """Return the coturns that a process started and that have not ended."""
    parent = of or os.getpid()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                name = (entry / "comm").read_text().strip()
            except OSError:
                continue
            if int(fields[1]) == parent and fields[0] != "Z" and name == "turnserver":
                found.append(int(entry.name))
    return found


class Server:
    """The answers to those who want credentials."""

    def __init__(
        self,
        *,
        coturn: Coturn | None = None,
        turn_host: str | None = "turn.example",
        **settings: Any,
    ) -> None:
        self.sessions = Sessions(b"a secret of this test's own")
        self.revocations = Revocations(Cluster())
        self.private = Ed25519PrivateKey.generate()
        self.key = self.private.public_key().public_bytes_raw()
        self.open = {(self.key, ROOM)}
        self.away = False
        """Whether what keeps the rooms does not answer."""
        plenty = {"lookups_per_minute": 1e6, "grants_per_minute": 1e6}
        given = Settings(**{"turn_host": turn_host, **plenty, **settings})
        self.turn = Turn(
            self.sessions,
            self.revocations,
            self.is_open,
            given,
            TurnHost(given),
            secret=SECRET,
            coturn=coturn,
        )
        self.client: TestClient[web.Request, web.Application]

    async def is_open(self, key: bytes, room: str) -> bool:
        if self.away:
            raise StoreAwayError
        return (key, room) in self.open

    def session(self) -> str:
        return self.sessions.issue(self.key)[0]

    def token(self, **changes: Any) -> str:
        values = {
            "key": self.key,
            "room": ROOM,
            "id": "guest",
            "expires": time.time() + 600,
            "may": frozenset(("turn",)),
        }
        return sign(self.private, RoomToken(**{**values, **changes}))

    async def ask(self, token: str, **headers: str) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {token}", **headers} if token else headers
        async with self.client.get("/turn", headers=headers) as response:
            return response.status, await response.json()


@asynccontextmanager
async def serving(**changes: Any) -> AsyncIterator[Server]:
    server = Server(**changes)
    app = web.Application()
    app.add_routes(server.turn.routes("/"))
    async with TestClient(TestServer(app)) as client:
        server.client = client
        yield server


async def test_a_home_gets_credentials_with_which_coturn_makes_an_allocation(
    coturn_program: Path,
) -> None:
    async with (
        running(coturn_program) as (_, port),
        serving(turn_host=HOME, turn_port=port) as server,
    ):
        status, answer = await server.ask(server.session())
        assert status == 200
        stun, turn = answer["iceServers"]
        assert stun["urls"] == [f"stun:{HOME}:{port}"]
        assert turn["urls"] == [
            f"turn:{HOME}:{port}?transport=udp",
            f"turn:{HOME}:{port}?transport=tcp",
        ]

        async with turn_client(
            HOME, port, turn["username"], turn["credential"]
        ) as client:
            await client.allocate()
            await client.permit("1.1.1.1")


async def test_a_guest_may_try_again_when_his_room_could_not_be_looked_up() -> None:
    async with serving() as server:
        server.away = True
        status, answer = await server.ask(server.token())
        assert (status, answer["error"]) == (503, "unavailable")
        # A home needs no room.
        assert (await server.ask(server.session()))[0] == 200
        server.away = False
        assert (await server.ask(server.token()))[0] == 200


async def test_credentials_end_in_time_and_say_nothing_of_whose_they_are() -> None:
    async with serving() as server:
        now = int(time.time())
        _, of_home = await server.ask(server.session())
        _, of_guest = await server.ask(server.token(expires=now + 60))
        _, of_same_guest = await server.ask(server.token(expires=now + 90))
        _, of_another = await server.ask(server.token(id="another"))

    assert now + LIFE <= of_home["expires"] <= time.time() + LIFE
    assert of_guest["expires"] == now + 60
    names = [
        answer["iceServers"][1]["username"].split(":")
        for answer in (of_home, of_guest, of_same_guest, of_another)
    ]
    assert [int(end) for end, _ in names[:3]] == [
        of_home["expires"],
        now + 60,
        now + 90,
    ]
    home, guest, same, another = (user for _, user in names)
    assert guest == same
    assert len({home, guest, another}) == 3
    assert pemus_id(server.key) not in str(of_home)


async def test_who_was_not_let_in_gets_none() -> None:
    async with serving() as server:
        stranger = Ed25519PrivateKey.generate()
        their_key = stranger.public_key().public_bytes_raw()
        forged = sign(
            stranger,
            RoomToken(
                their_key, ROOM, "guest", time.time() + 600, frozenset(("turn",))
            ),
        )
        for token, status in [
            ("", 401),
            ("nonsense", 401),
            (server.token() + "x", 401),
            (server.token(expires=time.time() - 1), 401),
            (server.token(may=frozenset(("announce",))), 403),
            (server.token(room="another"), 403),
            (forged, 403),
        ]:
            answered, error = await server.ask(token)
            assert answered == status, token
            assert error["error"] == {401: "unauthorized", 403: "forbidden"}[status]
        assert server.turn.granted == 0


@pytest.mark.parametrize("jump", [-3600, 86400])
async def test_when_the_clock_is_put_right_credentials_are_good_for_an_hour_again(
    monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    right = time.time()
    now = right + jump
    monkeypatch.setattr(time, "time", lambda: now)
    async with serving() as server:
        session = server.session()
        token = server.token(expires=right + 1800)
        status, given = await server.ask(session)
        assert (status, given["expires"]) == (200, int(now + LIFE))
        status, given = await server.ask(token)
        # A guest's are never good for longer than what its home signed.
        if jump < 0:
            assert (status, given["expires"]) == (200, int(now + LIFE))
        else:
            assert status == 401
        now = right
        # What was made in the past is over, and what was made in the future does not last for a day.
        assert (await server.ask(session))[0] == 401
        status, given = await server.ask(server.session())
        assert (status, given["expires"]) == (200, int(now + LIFE))
        status, given = await server.ask(token)
        assert (status, given["expires"]) == (200, int(right + 1800))


async def test_a_revoked_token_and_a_closed_room_give_none() -> None:
    async with serving() as server:
        server.revocations.revoke_token(server.key, "guest")
        assert (await server.ask(server.token()))[0] == 401
        other = server.token(id="other")
        assert (await server.ask(other))[0] == 200
        server.open.clear()
        assert (await server.ask(other))[0] == 403
        server.revocations.revoke_room(server.key, ROOM)
        assert (await server.ask(other))[0] == 401


async def test_credentials_are_limited_by_address_and_by_home() -> None:
    async with serving(lookups_per_minute=2) as server:
        assert [(await server.ask("nonsense"))[0] for _ in range(3)] == [401, 401, 429]
    async with serving(grants_per_minute=2) as server:
        assert [
            (await server.ask(server.token(id=f"guest-{number}")))[0]
            for number in range(3)
        ] == [200, 200, 429]
        assert (await server.ask(server.session()))[0] == 429


async def test_there_are_none_while_coturn_does_not_run() -> None:
    async with (
        serving(
            coturn=Coturn(CoturnSettings(SECRET, program="no-such-turnserver"))
        ) as server,
        server.client.get(
            "/turn", headers={"Authorization": f"Bearer {server.session()}"}
        ) as response,
    ):
        assert response.status == 503
        assert int(response.headers["Retry-After"]) > 0


async def test_without_a_name_of_its_own_it_is_where_the_client_found_the_server() -> (
    None
):
    async with serving(turn_host=None) as server:
        for host, written in [
            ("signal.example:9000", "signal.example"),
            ("203.0.113.7", "203.0.113.7"),
            ("[2001:db8::7]:9000", "[2001:db8::7]"),
        ]:
            status, answer = await server.ask(server.session(), Host=host)
            assert (status, answer["iceServers"][0]["urls"]) == (
                200,
                [f"stun:{written}:3478"],
            )
        for host in ("a b", "x?transport=tcp", "", "@", "a,b"):
            assert (await server.ask(server.session(), Host=host))[0] == 400, host
    async with serving(turn_host="2001:db8::7") as server:
        assert (await server.ask(server.session()))[1]["iceServers"][0]["urls"] == [
            "stun:[2001:db8::7]:3478"
        ]
