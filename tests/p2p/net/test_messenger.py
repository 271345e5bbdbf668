"""Which messages are looked at: a flood keeps out none but those who come from where it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from p2p.net import messenger as module
from p2p.net.identity import Identity
from p2p.net.messages import seal
from p2p.net.messenger import Message, Messenger

ANN, FRIEND = (Identity.of(bytes([number] * 32)) for number in (1, 2))
JUNK = {"sender": FRIEND.id}


@dataclass
class Transport:
    """Where messages come from."""

    origin: str
    is_lan: bool = True
    tells_apart: bool = True

    def send(self, home: str, message: dict[str, Any], *, reply: bool) -> bool:
        return False


class Inbox:
    """The messenger of a home, at a time that stands still."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.messenger = Messenger(
            ANN,
            self.messages.append,
            is_expected=lambda home: home == FRIEND.id,
            clock=lambda: 1000.0,
        )

    def flood(self, *transports: Transport, source: str = "") -> None:
        """Let more junk than may come over some transports, in the name of a friend."""
        for transport in transports:
            for _ in range(3 * int(module.BURST)):
                self.messenger.receive(JUNK, transport, source)

    def hears(self, transport: Transport, source: str = "") -> bool:
        """Tell whether the friend gets through."""
        before = len(self.messages)
        self.messenger.receive(seal(FRIEND, ANN.id, "ping", b"{}"), transport, source)
        return len(self.messages) > before


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def machines(count: int) -> list[Transport]:
    """Return machines of the local network."""
    return [Transport(f"192.168.0.{number}") for number in range(count)]


def test_a_friend_gets_through_whoever_writes_its_id_into_junk(inbox: Inbox) -> None:
    inbox.flood(*machines(20))
    for transport in (
        Transport("192.168.0.100"),
        Transport("server.example", is_lan=False),
    ):
        assert inbox.hears(transport, FRIEND.id)


def test_an_address_that_floods_has_no_reserve(inbox: Inbox) -> None:
    (eve,) = machines(1)
    inbox.flood(eve)
    assert not inbox.hears(eve)


@pytest.mark.parametrize("proves", [False, True])
def test_who_floods_a_server_floods_no_other(inbox: Inbox, proves: bool) -> None:
    flooded = Transport("flooded.example", is_lan=False, tells_apart=proves)
    for number in range(5):
        inbox.flood(flooded, source=f"Eve {number}")
    assert inbox.hears(Transport("server.example", is_lan=False, tells_apart=proves))
    assert inbox.hears(Transport("192.168.0.100"))
    # Where homes prove who they are, not even there.
    assert inbox.hears(flooded, FRIEND.id) is proves
