"""Homes of this machine that can be introduced to each other, each with the parts of a real one."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
import secrets

from aiohttp import ClientSession

from p2p.core.errors import NotFound
from p2p.core.throttle import Throttle
from p2p.friends import pairing as pairings
from p2p.friends.pairings import Pairings
from p2p.models.homes import LanHome
from p2p.net.identity import Identity
from p2p.net.lan import Lan
from p2p.net.link import links as linking
from p2p.net.link.frames import Ask, Note
from p2p.net.link.link import Link
from p2p.net.link.links import Links
from p2p.net.messenger import Message, Messenger
from p2p.net.webrtc.ice import IceServer

PART = 100_000
"""Bytes of a part of an answer."""


class Neighbour:
    """A home with a port in the local network, pairings and links; its media is what `contents` says."""

    def __init__(self, name: str, session: ClientSession, seed: bytes | None) -> None:
        self.name = name
        self.identity = Identity.of(seed or secrets.token_bytes(32))
        self.friends: set[str] = set()
        self.contents: dict[str, bytes] = {}
        self.served = Counter[str]()
        """Bytes of each item that were handed to a link."""
        self.notes: list[str] = []
        self.introductions: list[bytes] = []
        self.endings: list[tuple[str, bool]] = []
        self.asked: list[Ask] = []
        self.servers: Sequence[IceServer] = ()
        """STUN and TURN servers."""
        self.rates: tuple[Throttle, ...] = ()
        self.messages: list[Message] = []
        """What came and was dealt with."""
        self.messenger = Messenger(
            self.identity, self._received, is_expected=self._is_expected
        )
        self.lan = Lan(self.messenger, session)
        self.messenger.add(self.lan)
        self.pairings = Pairings(
            self.messenger,
            name=lambda: self.name,
            is_friend=self.friends.__contains__,
            on_change=lambda: None,
        )
        self.links = Links(
            self.messenger,
            self,
            name=lambda: self.name,
            is_friend=self.friends.__contains__,
            is_pairing=lambda _home: False,
            servers=self._servers,
            rates=lambda _home: self.rates,
            near=self.lan.knows,
            only_way=lambda _home: False,
        )

    @property
    def id(self) -> str:
        return self.identity.id

    def sees(self, *others: Neighbour) -> None:
        """Let mDNS show other homes."""
        self.lan.show(
            tuple(
                LanHome(
                    id=each.id,
                    name=each.name,
                    addresses=("127.0.0.1",),
                    port=each.lan.port,
                )
                for each in others
            )
        )

    def _is_expected(self, home: str) -> bool:
        return home in self.friends or self.pairings.is_expected(home)

    async def find_servers(self) -> Sequence[IceServer]:
        return self.servers

    async def _servers(self) -> Sequence[IceServer]:
        return await self.find_servers()

    def _received(self, message: Message) -> None:
        if message.envelope.kind in pairings.KINDS:
            self.pairings.receive(message)
        elif message.envelope.kind in linking.KINDS:
            self.links.receive(message)
        self.messages.append(message)

    async def answer(self, link: Link, ask: Ask) -> AsyncIterator[bytes]:
        self.asked.append(ask)
        if ask.item not in self.contents:
            raise NotFound("there is no such item")
        content = self.contents[ask.item]
        for start in range(ask.start, min(ask.stop, len(content)), PART):
            part = content[start : min(start + PART, ask.stop)]
            self.served[ask.item] += len(part)
            yield part

    def noted(self, link: Link, note: Note) -> None:
        self.notes.append(note.about)

    def introduced(self, link: Link, message: bytes) -> None:
        self.introductions.append(message)

    def ready(self, link: Link) -> None:
        pass

    def closed(self, link: Link, reason: str, *, by_them: bool) -> None:
        self.endings.append((reason, by_them))

    async def open_link(self, other: Neighbour) -> Link:
        """Open a link in the local network, also if there is one."""
        return await self.links.slot(other.id).own_offers.open(lan=True)

    def replaced(self, other: Neighbour) -> tuple[Link, ...]:
        """Return the former links to another home that are still open."""
        return self.links.slot(other.id).replaced


@asynccontextmanager
async def neighbour(
    name: str, *, seed: bytes | None = None
) -> AsyncIterator[Neighbour]:
    """Start a home, and stop it in the end."""
    async with ClientSession() as session:
        home = Neighbour(name, session, seed)
        await home.lan.open()
        home.pairings.start()
        home.links.start()
        try:
            yield home
        finally:
            await home.links.stop()
            await home.pairings.stop()
            await home.lan.close()


def befriend(one: Neighbour, other: Neighbour) -> None:
    """Let two homes be friends that see each other."""
    one.friends.add(other.id)
    other.friends.add(one.id)
    one.sees(other)
    other.sees(one)
