"""Passwords: kept as keys, and not tried for ever."""

from __future__ import annotations

import pytest

from p2p.core.errors import PasswordNeeded, RateLimited
from p2p.models.rooms import MAX_PASSWORD, RoomPassword
from p2p.rooms.password import GUEST_TRIES, NETWORK_TRIES, ROOM_TRIES, PasswordCheck

RIGHT, WRONG = "open sesame", "open barley"
KEPT = RoomPassword.of(RIGHT)


@pytest.mark.parametrize("password", ["a", "ä€😀", "x" * MAX_PASSWORD, "\ud800"])
def test_a_password_is_known_again(password: str) -> None:
    kept = RoomPassword.of(password)
    assert kept.is_right(password)
    assert not kept.is_right(f"{password}x")


def test_the_same_password_is_kept_in_another_way_each_time() -> None:
    assert RoomPassword.of(RIGHT) != KEPT


@pytest.mark.parametrize("salt", ["", "ä", "A", "****"])
def test_what_cannot_be_read_lets_nobody_in(salt: str) -> None:
    assert not RoomPassword(salt=salt, key=KEPT.key).is_right(RIGHT)
    assert not RoomPassword(salt=KEPT.salt, key=salt).is_right(RIGHT)


class Now:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Door:
    """A room with a password."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Now()
        self.check = PasswordCheck(self.clock)
        # 50 ms each, which says nothing about the limits.
        monkeypatch.setattr(
            RoomPassword, "is_right", lambda _self, given: given == RIGHT
        )

    async def knock(
        self, given: str, guest: str = "", network: str = "", has_secret: bool = True
    ) -> None:
        await self.check.check(
            KEPT, given, guest=guest, network=network, has_secret=has_secret
        )


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    return Door(monkeypatch)


async def test_nothing_given_counts_as_no_try(door: Door) -> None:
    for _ in range(100):
        with pytest.raises(PasswordNeeded, match="needed"):
            await door.knock("")
    await door.knock(RIGHT)


async def test_a_guest_waits_after_some_tries(door: Door) -> None:
    for _ in range(GUEST_TRIES):
        with pytest.raises(PasswordNeeded, match="wrong"):
            await door.knock(WRONG, "ann")
    with pytest.raises(RateLimited) as waiting:
        await door.knock(RIGHT, "ann")
    door.clock.now += float(str(waiting.value))
    await door.knock(RIGHT, "ann")


async def test_another_name_does_not_help_within_a_network(door: Door) -> None:
    for number in range(NETWORK_TRIES):
        with pytest.raises(PasswordNeeded):
            await door.knock(WRONG, str(number), "192.0.2.0/24")
    with pytest.raises(RateLimited):
        await door.knock(RIGHT, "another", "192.0.2.0/24")
    await door.knock(RIGHT, "another", "198.51.100.0/24")


async def test_who_only_heard_of_the_room_does_not_lock_others_out(door: Door) -> None:
    for number in range(ROOM_TRIES):
        with pytest.raises(PasswordNeeded):
            await door.knock(WRONG, str(number), str(number), has_secret=False)
    with pytest.raises(RateLimited):
        await door.knock(RIGHT, "new", "new", has_secret=False)
    await door.knock(RIGHT, "new", "new")
