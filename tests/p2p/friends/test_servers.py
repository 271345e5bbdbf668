"""Connections to signalling servers, which are played by what records how it is used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from p2p.friends import servers as module
from p2p.friends.servers import Servers
from p2p.models.homes import ServerStatus
from p2p.net.identity import Identity
from p2p.net.messages import seal
from p2p.net.messenger import Message, Messenger
from p2p.net.webrtc.ice import IceServer

HOME, STRANGER = Identity.of(bytes([1] * 32)), Identity.of(bytes([9] * 32))
URL, OTHER = "https://signal.example/", "https://other.example/"


class Server:
    """A connection to a server."""

    is_lan = False
    tells_apart = True

    def __init__(
        self,
        url: str,
        _identity: Identity,
        *,
        on_message: Callable[[str, object], None],
        on_change: Callable[[], None],
        **_others: object,
    ) -> None:
        self.origin = url
        self.status = ServerStatus(url=url, connected=True, identity=True)
        self.superseded = False
        self.brings = on_message
        self.changed = on_change
        self.found: Sequence[IceServer] = ()
        self.woken = 0
        self.is_running = False

    def send(self, home: str, message: dict[str, Any], *, reply: bool) -> bool:
        return False

    def start(self) -> None:
        self.is_running = True

    async def stop(self) -> None:
        self.is_running = False

    def wake(self) -> None:
        self.woken += 1

    async def ice_servers(self) -> Sequence[IceServer]:
        return self.found


class Town:
    """The servers of a home, by their URL, and what it hears through them."""

    def __init__(self) -> None:
        self.all: dict[str, Server] = {}
        self.heard: list[str] = []
        self.connected = 0
        self.servers = Servers(
            Messenger(HOME, self._hear),
            on_change=lambda: None,
            on_connected=self._connect,
        )

    def _hear(self, message: Message) -> None:
        self.heard.append(message.envelope.sender)

    def _connect(self) -> None:
        self.connected += 1

    def made(self, url: str, *args: Any, **kwargs: Any) -> Server:
        self.all[url] = server = Server(url, *args, **kwargs)
        return server


@pytest.fixture
async def town(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    town = Town()
    monkeypatch.setattr(module, "SignalingServer", town.made)
    await town.servers.apply([URL], None)  # type: ignore[arg-type]
    yield town
    await town.servers.stop()
    assert not any(server.is_running for server in town.all.values())


async def test_nobody_speaks_for_others_at_a_server_that_asks_for_proofs(
    town: Town,
) -> None:
    message = seal(STRANGER, HOME.id, "ping", b"{}")
    town.all[URL].brings(Identity.of(bytes([8] * 32)).id, message)
    assert not town.heard
    town.all[URL].brings(STRANGER.id, message)
    assert town.heard == [STRANGER.id]


async def test_servers_follow_the_configuration(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    await town.servers.apply([OTHER, "no server"], None)  # type: ignore[arg-type]
    assert not town.all[URL].is_running
    assert town.all[OTHER].is_running
    assert [each.url for each in town.servers.statuses] == [OTHER]
    assert "no server is not a signalling server" in caplog.text


async def test_only_servers_that_are_away_are_called_at_once(town: Town) -> None:
    server = town.all[URL]
    town.servers.connect()
    assert not server.woken
    server.status = ServerStatus(url=URL, connected=False)
    town.servers.connect()
    assert server.woken == 1


async def test_a_server_that_is_connected_is_reported_and_names_stun(
    town: Town,
) -> None:
    server = town.all[URL]
    server.changed()
    assert town.connected == 1
    assert await town.servers.stun_server() is None
    server.found = [IceServer(urls=("turn:a.example", "stun:b.example:3478"))]
    assert await town.servers.stun_server() == "b.example:3478"
