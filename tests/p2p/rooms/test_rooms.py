"""Guests open a link and get what is shared, from a real engine through a real signalling server."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
import time

import pytest

from p2p.core.errors import EngineError
from p2p.models.rooms import RoomPassword
from tests.lab.engine_home import EngineHomeError

from .conftest import PASSWORD, House
from .guests import RefusedError

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_guest_with_the_link_downloads_a_film(house: House) -> None:
    link = await house.open("One", note="Enjoy")

    async with link.guest() as guest, guest.lease():
        content = await guest.download(guest.file)

        assert (guest.room["room"], guest.room["note"]) == ("For you", "Enjoy")
        assert content == (house.films / "One.mp4").read_bytes()
        state = await link.state()
        assert (state["guests"], state["served"], state["downloads"]) == (1, 1, 1)
        assert state["uploaded"] == len(content)


async def test_the_home_is_told_nothing_by_a_wrong_secret(house: House) -> None:
    link = await house.open("One")

    with pytest.raises(RefusedError):
        async with link.guest(secret="A" * 22):
            pass


async def test_a_folder_is_shared_with_all_that_lies_below_it(house: House) -> None:
    link = await house.open(folders=[{"share": "films", "path": ""}])

    async with link.guest() as guest:
        assert {(each["folder"], each["title"]) for each in guest.room["files"]} == {
            ("", "One"),
            ("", "Two"),
            ("Season", "Three"),
        }


async def test_what_is_not_in_the_room_is_not_served(house: House) -> None:
    link = await house.open("Two")
    whole = await house.open("One")

    async with whole.guest() as owner:
        film = owner.file
    async with link.guest() as guest, guest.lease():
        with pytest.raises(EngineError):
            await guest.part(film, 0, 10)
        with pytest.raises(EngineError):
            await guest.ask("thumbnail", item=film["item"])
        with pytest.raises(EngineError):
            await guest.ask("catalogue")
        with pytest.raises(EngineError):
            await guest.ask("ticket", item=film["item"])


async def test_a_room_with_a_password_says_nothing_without_it(house: House) -> None:
    link = await house.open("One", password=PASSWORD)

    async with link.guest(password=None) as guest:
        with pytest.raises(EngineError, match="needed"):
            await guest.look()
        with pytest.raises(EngineError, match="needed"):
            await guest.ask("thumbnail", item=house.items["One"])
        with pytest.raises(EngineError, match="wrong"):
            await guest.look("open barley")
        await guest.look(PASSWORD)
        assert guest.file


async def test_passwords_are_not_tried_for_ever(house: House) -> None:
    link = await house.open("One", password=PASSWORD)

    async with link.guest(password=None) as guest:
        for _ in range(5):
            with pytest.raises(EngineError, match="wrong"):
                await guest.look("open barley")
        with pytest.raises(EngineError, match=r"^[0-9]+$"):
            await guest.look(PASSWORD)


async def test_a_spoken_code_works_with_a_password_only(house: House) -> None:
    open_room = await house.open("One")
    locked = await house.open("One", password=PASSWORD)

    # The guest, who has no secret, cannot tell at once.
    with pytest.raises((RefusedError, EngineError)):
        async with open_room.guest(secret=""):
            pass
    async with locked.guest(secret="", password=PASSWORD) as guest:
        assert guest.file


async def test_guests_wait_for_their_turn(house: House) -> None:
    link = await house.open("One", guests=1)

    async with (
        link.guest() as first,
        link.guest() as second,
        first.lease(),
        second.lease() as place,
    ):
        assert (place.position, place.waiting) == (1, 1)
        with pytest.raises(EngineError, match="lease"):
            await second.part(second.file, 0, 10)
        # Streams have a place beside.
        async with second.lease("stream") as stream:
            assert stream.position == 0


async def test_the_next_guest_is_served_when_one_leaves(house: House) -> None:
    link = await house.open("One", guests=1)

    async with link.guest() as second:
        async with link.guest() as first, first.lease():
            waiting = second.lease()
            place = await waiting.__aenter__()
            assert place.position == 1
        await place.until(0)
        assert len(await second.part(second.file, 0, 10)) == 10
        await waiting.__aexit__(None, None, None)


async def test_a_room_that_is_taken_back_is_cut_at_once(house: House) -> None:
    link = await house.open("One")

    async with link.guest() as guest, guest.lease():
        began = time.monotonic()
        await house.close(link.room)
        await guest.left.wait()

        assert guest.reason == "gone"
        assert time.monotonic() - began < 3
        with pytest.raises(EngineError):
            await guest.part(guest.file, 0, 10)
    with pytest.raises(RefusedError, match="not_found"):
        async with link.guest():
            pass


async def test_a_room_ends_when_it_expires(house: House) -> None:
    link = await house.open("One")

    async with link.guest() as guest:
        await house.change(link.room, expires=time.time() + 1)
        async with asyncio.timeout(10):
            await guest.left.wait()
        assert guest.reason == "gone"
        assert (await link.state())["state"] == "expired"


async def test_a_used_up_room_lets_nobody_else_in(house: House) -> None:
    link = await house.open("Two", downloads=1)

    async with link.guest() as guest:
        async with guest.lease():
            await guest.download(guest.file)
        async with asyncio.timeout(10):
            await guest.left.wait()
        assert guest.reason == "used_up"
    assert (await link.state())["state"] == "used_up"
    with pytest.raises(RefusedError, match="gone"):
        async with link.guest():
            pass


async def test_a_guest_counts_once(house: House) -> None:
    link = await house.open("Two")

    for _ in range(2):
        async with link.guest(name="the same browser") as guest, guest.lease():
            await guest.download(guest.file)

    assert (await link.state())["downloads"] == 1


async def test_a_file_that_is_fetched_again_is_not_told_again(house: House) -> None:
    link = await house.open("Two")
    async with house.events() as events, link.guest() as guest, guest.lease():
        for _ in range(5):
            await guest.download(guest.file)
        # What the next guest does is told behind all that happened before.
        async with link.guest():
            kinds = await events.until_happened(link.room, "joined", 2)

    assert kinds.count("completed") == 1


async def test_the_owner_is_told_of_guests_who_wait(house: House) -> None:
    link = await house.open("One", guests=1)

    async with house.events() as events, link.guest() as first, link.guest() as second:
        async with first.lease(), second.lease():
            await events.until_state(link.room, served=1, waiting=1)
        await events.until_state(link.room, served=0, waiting=0)


async def test_the_local_network_is_limited_if_the_user_wants(house: House) -> None:
    link = await house.open("One", upload_limit=1_000_000)
    await house.home.configure(swarm={"lan_exempt": False})

    async with link.guest() as guest, guest.lease():
        began = time.monotonic()
        await guest.download(guest.file)
        # 3 MB, of which a quarter of a second's worth is sent at once.
        assert time.monotonic() - began > 2
    await house.home.configure(swarm={})


async def test_a_new_password_has_guests_come_again(house: House) -> None:
    link = await house.open("One")

    async with link.guest() as guest:
        await house.change(link.room, password=asdict(RoomPassword.of(PASSWORD)))
        await guest.left.wait()
        assert guest.reason == "stopping"
    async with link.guest(password=PASSWORD) as guest:
        assert guest.file


async def test_the_link_lives_on_after_a_restart(house: House) -> None:
    link = await house.open("Two")
    async with link.guest() as guest, guest.lease():
        await guest.download(guest.file)

    await house.home.stop()
    await house.home.start()

    assert await house.link(link.room) == link
    assert (await link.state())["downloads"] == 1
    await house.home.until(
        lambda: _is(house, link.room, "open"), "the server to be connected"
    )
    async with link.guest() as guest:
        assert guest.file


async def test_a_changed_file_is_not_mixed_with_the_former_one(house: House) -> None:
    link = await house.open("Two")

    async with link.guest() as guest, guest.lease():
        path = house.films / "Two.mp4"
        path.write_bytes(path.read_bytes()[::-1])
        with pytest.raises(EngineError, match="changed"):
            await guest.part(guest.file, 0, 10)


async def test_a_browser_that_hides_its_addresses_is_in_the_local_network(
    house: House,
) -> None:
    link = await house.open("One")

    async with link.guest(is_hidden=True):
        guests = await house.home.ask("GET", f"rooms/{link.room}/guests")
        assert [each["path"] for each in guests["guests"]] == ["lan"]


async def test_the_owner_sees_guests_and_sends_one_away(house: House) -> None:
    link = await house.open("One")
    path = f"rooms/{link.room}/guests"

    async with link.guest(name="ann") as ann, link.guest(name="ben") as ben:
        async with ann.lease():
            await ann.part(ann.file, 0, 1000)
            guests = (await house.home.ask("GET", path))["guests"]
            found = {each["id"]: each for each in guests}
            assert found.keys() == {"ann", "ben"}
            assert (found["ann"]["uploaded"], found["ann"]["served"]) == (1000, True)
            assert (found["ben"]["uploaded"], found["ben"]["served"]) == (0, False)
            assert found["ann"]["path"] == "lan"
        await house.home.ask("DELETE", f"{path}/ann")
        await ann.left.wait()
        assert ann.reason == "disconnected"
        await ben.look()
    with pytest.raises(EngineHomeError, match="no such guest"):
        await house.home.ask("DELETE", f"{path}/ann")
    with pytest.raises(EngineHomeError, match="no such room"):
        await house.home.ask("GET", "rooms/nothing/guests")


async def _is(house: House, room: str, state: str) -> bool:
    return bool((await house.room(room))["state"] == state)
