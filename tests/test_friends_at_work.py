"""Becoming friends with a real other home, and what the two can do with each other then."""

from ipaddress import ip_address
from pathlib import Path

from homeassistant.components.media_player import SearchMediaQuery
from homeassistant.components.media_source import (
    async_browse_media,
    async_resolve_media,
    async_search_media,
)
from homeassistant.config_entries import SOURCE_USER, SOURCE_ZEROCONF
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers.service_info.zeroconf import ZeroconfServiceInfo
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.pemus.const import DOMAIN, SUBENTRY_FRIEND
from custom_components.pemus.friends.pairings import Step
from custom_components.pemus.friends.terms import find_friend
from custom_components.pemus.p2p.models.homes import PairingStatus
from custom_components.pemus.p2p.models.pemus_id import grouped
from tests.lab.engine_home import EngineHome
from tests.patience import until

from .household import eventually
from .test_pairings import dialogs, last_event, notifications
from .test_services import device_of, search

ROOT = "media-source://pemus"


def known(entry: MockConfigEntry, bob: EngineHome) -> PairingStatus | None:
    """Return this home's pairing with the other one."""
    return entry.runtime_data.pairings.pairing(bob.id)


def own_id(entry: MockConfigEntry) -> str:
    """Return this home's PeMuS ID."""
    return entry.runtime_data.coordinator.data.peers.id


async def answer(bob: EngineHome, home: str, *, accept: bool = True) -> None:
    """Have the other home answer, as soon as it can."""

    async def asked() -> bool:
        pairings = (await bob.peers())["pairings"]
        return any(
            pairing["home"] == home and pairing["state"] == "comparing"
            for pairing in pairings
        )

    await until(asked)
    await bob.ask("PUT", f"pairings/{home}/answer", {"accept": accept})


async def befriend(
    hass: HomeAssistant, entry: MockConfigEntry, bob: EngineHome
) -> None:
    """Make both homes friends, and have this one share nothing."""
    home = own_id(entry)
    await hass.services.async_call(
        DOMAIN, "request_friend", {"home_id": bob.id}, blocking=True
    )
    await answer(bob, home)
    await eventually(hass, lambda: find_friend(entry, bob.id) is not None)
    friends = [{"id": home, "name": "Casa", "shares": ["films"]}]
    await bob.configure(friends=friends)


def friend_of(entry: MockConfigEntry, bob: EngineHome) -> object:
    """Return how the friend is."""
    friends = entry.runtime_data.coordinator.data.peers.friends
    return next((each for each in friends if each.id == bob.id), None)


async def until_listed(
    hass: HomeAssistant, entry: MockConfigEntry, bob: EngineHome, count: int = 2
) -> None:
    """Wait until all that the friend shares is known here."""

    def listed() -> bool:
        friend = friend_of(entry, bob)
        return friend is not None and friend.online and friend.items == count

    await eventually(hass, listed)


async def test_a_friend_is_added_by_its_id(
    hass: HomeAssistant, entry: MockConfigEntry, media: Path, bob: EngineHome
) -> None:
    (films,) = entry.get_subentries_of_type("share")
    flows = hass.config_entries.subentries
    form = await flows.async_init(
        (entry.entry_id, SUBENTRY_FRIEND), context={"source": SOURCE_USER}
    )
    assert form["description_placeholders"]["own_id"] == grouped(own_id(entry))

    result = await flows.async_configure(
        form["flow_id"],
        {"id": grouped(bob.id).lower(), "shares": [films.subentry_id]},
    )
    assert result["type"] is FlowResultType.SHOW_PROGRESS
    await eventually(
        hass, lambda: entry.runtime_data.pairings.step(bob.id) is Step.CONFIRMED
    )
    result = await flows.async_configure(form["flow_id"])
    assert result["type"] is FlowResultType.SHOW_PROGRESS
    assert result["step_id"] == "comparing"
    words = result["description_placeholders"]["words"].split()
    (there,) = (await bob.peers())["pairings"]
    assert there["words"] == words
    assert there["name"] == "Casa"

    await answer(bob, own_id(entry))
    await eventually(hass, lambda: find_friend(entry, bob.id) is not None)
    result = await flows.async_configure(form["flow_id"])
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "paired"
    assert result["description_placeholders"]["name"] == "Bob"
    assert find_friend(entry, bob.id).title == "Bob"
    assert last_event(hass)["event_type"] == "paired"

    # Bob sees what was granted, and nothing else.
    await bob.configure(friends=[{"id": own_id(entry), "name": "Casa", "shares": []}])

    async def sees() -> bool:
        (friend,) = (await bob.peers())["friends"]
        return friend["items"] == 7

    await until(sees)
    hass.config_entries.async_update_subentry(
        entry, find_friend(entry, bob.id), data={"id": bob.id, "shares": []}
    )

    async def sees_no_more() -> bool:
        (friend,) = (await bob.peers())["friends"]
        return friend["items"] == 0

    await until(sees_no_more)


async def test_a_home_that_asks_is_confirmed_in_the_dialog(
    hass: HomeAssistant, entry: MockConfigEntry, media: Path, bob: EngineHome
) -> None:
    (films,) = entry.get_subentries_of_type("share")
    await bob.ask("POST", "pairings", {"home": own_id(entry), "trusted": True})
    await eventually(hass, lambda: len(dialogs(hass)) == 1)

    (dialog,) = dialogs(hass)
    configure = hass.config_entries.flow.async_configure
    menu = await configure(dialog["flow_id"])
    assert menu["type"] is FlowResultType.MENU
    shown = menu["description_placeholders"]
    assert shown["name"] == "Bob"
    assert shown["id"] == grouped(bob.id)
    assert shown["origin"].endswith("127\\.0\\.0\\.1")
    (there,) = (await bob.peers())["pairings"]
    assert there["words"] == shown["words"].split()
    form = await configure(dialog["flow_id"], {"next_step_id": "shares"})
    assert form["step_id"] == "shares"
    result = await configure(dialog["flow_id"], {"shares": [films.subentry_id]})
    assert result["type"] in {FlowResultType.SHOW_PROGRESS, FlowResultType.ABORT}

    await eventually(hass, lambda: find_friend(entry, bob.id) is not None)
    assert find_friend(entry, bob.id).data["shares"] == [films.subentry_id]
    assert notifications(hass) == {}
    assert (await bob.pairing(_as_home(entry)))["state"] == "paired"


def _as_home(entry: MockConfigEntry) -> EngineHome:
    """Return this home as the other one names it."""

    class Here:
        id = own_id(entry)

    return Here()


async def test_homes_in_one_network_compare_the_words(
    hass: HomeAssistant, entry: MockConfigEntry, bob: EngineHome
) -> None:
    result = await hass.config_entries.flow.async_init(
        DOMAIN,
        context={"source": SOURCE_ZEROCONF},
        data=ZeroconfServiceInfo(
            ip_address=ip_address("127.0.0.1"),
            ip_addresses=[ip_address("127.0.0.1")],
            port=bob.port,
            hostname="bob.local.",
            type="_pemus._tcp.local.",
            name=f"{bob.id}._pemus._tcp.local.",
            properties={"id": bob.id, "name": "Bob", "v": "1"},
        ),
    )
    assert result["step_id"] == "zeroconf_confirm"
    configure = hass.config_entries.flow.async_configure
    flow_id = result["flow_id"]
    await configure(flow_id, {})
    step = entry.runtime_data.pairings.step
    await eventually(hass, lambda: step(bob.id) is Step.COMPARING)
    # A name from the network proves nothing: nobody has said yes yet.
    assert not known(entry, bob).confirmed
    menu = await configure(flow_id)
    assert menu["step_id"] == "compare"
    (there,) = (await bob.peers())["pairings"]
    assert there["words"] == menu["description_placeholders"]["words"].split()

    await configure(flow_id, {"next_step_id": "shares"})
    result = await configure(flow_id, {})
    assert result["step_id"] == "finishing"
    assert find_friend(entry, bob.id) is None
    await answer(bob, own_id(entry))
    await eventually(hass, lambda: find_friend(entry, bob.id) is not None)
    result = await configure(flow_id)
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "paired")


async def test_who_is_denied_and_blocked_hears_no_and_can_be_unblocked(
    hass: HomeAssistant, entry: MockConfigEntry, bob: EngineHome
) -> None:
    await bob.ask("POST", "pairings", {"home": own_id(entry), "trusted": True})
    await eventually(hass, lambda: len(dialogs(hass)) == 1)
    (dialog,) = dialogs(hass)

    result = await hass.config_entries.flow.async_configure(
        dialog["flow_id"], {"next_step_id": "block"}
    )
    assert result["reason"] == "blocked_here"

    async def denied() -> bool:
        return (await bob.pairing(_as_home(entry))).get("state") == "denied"

    await until(denied)
    peers = entry.runtime_data.coordinator
    await eventually(hass, lambda: peers.data.peers.blocked == (bob.id,))
    assert dialogs(hass) == []
    assert notifications(hass) == {}

    options = hass.config_entries.options
    menu = await options.async_init(entry.entry_id)
    form = await options.async_configure(menu["flow_id"], {"next_step_id": "blocked"})
    assert form["step_id"] == "blocked"
    await options.async_configure(menu["flow_id"], {"unblock": [bob.id]})
    await eventually(hass, lambda: peers.data.peers.blocked == ())


async def test_a_friends_films_are_browsed_found_and_played(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    bob: EngineHome,
    tmp_path: Path,
    hass_client: ClientSessionGenerator,
) -> None:
    client = await hass_client()
    await befriend(hass, entry, bob)
    await until_listed(hass, entry, bob)

    root = await async_browse_media(hass, ROOT)
    home = root.children[-1]
    assert home.title == "Bob"
    assert home.can_search and home.can_expand and not home.can_play
    place = await async_browse_media(hass, f"{home.media_content_id}/all/video/folders")
    (folder,) = (child for child in place.children if child.title == "films")
    place = await async_browse_media(hass, folder.media_content_id)
    (ocean,) = (child for child in place.children if child.title == "Ocean")
    assert ocean.can_play
    item = ocean.media_content_id.rpartition("/")[2]
    assert ocean.media_content_id == f"{home.media_content_id}/{item}"

    found = await async_search_media(
        hass, home.media_content_id, SearchMediaQuery(search_query="ocean")
    )
    assert [each.media_content_id for each in found.result] == [ocean.media_content_id]
    assert ocean.thumbnail == f"/api/pemus/thumbnail/{bob.id}/{item}"
    for shown in (ocean, *found.result):
        picture = await client.get(shown.thumbnail)
        assert picture.status == 200
        assert picture.content_type == "image/jpeg"
    words = await client.get(f"/api/pemus/subtitles/{bob.id}/{item}/0.vtt")
    assert "The sea." in await words.text()

    resolved = await async_resolve_media(hass, ocean.media_content_id, None)
    response = await client.get(resolved.url)
    original = (tmp_path / "Bob" / "Cinema" / "films" / "Ocean.mp4").read_bytes()
    assert await response.read() == original


async def test_a_search_finds_what_friends_share(
    hass: HomeAssistant, entry: MockConfigEntry, media: Path, bob: EngineHome
) -> None:
    await befriend(hass, entry, bob)
    await until_listed(hass, entry, bob)

    async def found(**narrowed: str) -> list[tuple[str, str | None, bool]]:
        return [
            (each["media_content_id"].split("/")[3], each["friend"], each["available"])
            for each in await search(hass, query="ocean", **narrowed)
        ]

    assert await found() == [("item", None, True), ("home", "Bob", True)]
    assert await found(friend="Bob") == [("home", "Bob", True)]
    assert await found(share="Media") == [("item", None, True)]
    own = device_of(hass, entry, entry.entry_id)
    assert await found(share=own) == [("item", None, True)]
    (theirs,) = await search(hass, query="ocean", friend="Bob")
    assert f"/api/pemus/stream/{bob.id}/" in theirs["url"]
    assert f"/api/pemus/thumbnail/{bob.id}/" in theirs["thumbnail"]
    assert f"/api/pemus/subtitles/{bob.id}/" in theirs["subtitles"][0]["url"]
    browsed = await async_search_media(
        hass, ROOT, SearchMediaQuery(search_query="ocean")
    )
    assert [each.title for each in browsed.result] == ["Ocean", "Ocean (Bob)"]

    # One that cannot be reached keeps nothing from being found.
    await bob.stop()
    await eventually(
        hass, lambda: hass.states.get("binary_sensor.bob_connection").state == "off"
    )
    assert await found() == [("item", None, True), ("home", "Bob", False)]


async def test_a_friend_is_a_device_that_shows_how_it_is_reached(
    hass: HomeAssistant, entry: MockConfigEntry, bob: EngineHome
) -> None:
    await befriend(hass, entry, bob)
    await until_listed(hass, entry, bob)
    await eventually(hass, lambda: hass.states.get("sensor.bob_path").state == "lan")
    assert hass.states.get("binary_sensor.bob_connection").state == "on"
    assert hass.states.get("sensor.bob_shared_with_you").state == "2"

    await bob.stop()
    await eventually(
        hass, lambda: hass.states.get("binary_sensor.bob_connection").state == "off"
    )

    assert hass.states.get("sensor.bob_path").state == "none"
    # What it shared is still listed, and does not play.
    root = await async_browse_media(hass, ROOT)
    home = root.children[-1]
    assert home.title == "Bob (offline)"
    place = await async_browse_media(hass, f"{home.media_content_id}/all/video/folders")
    (folder,) = (child for child in place.children if child.title == "films")
    place = await async_browse_media(hass, folder.media_content_id)
    assert {child.title: child.can_play for child in place.children}["Ocean"] is False


async def test_a_friend_that_is_removed_is_cut_off_at_once(
    hass: HomeAssistant, entry: MockConfigEntry, media: Path, bob: EngineHome
) -> None:
    await befriend(hass, entry, bob)
    await until_listed(hass, entry, bob)

    await hass.services.async_call(
        DOMAIN, "remove_friend", {"friend": "bob"}, blocking=True
    )
    await hass.async_block_till_done()

    assert hass.states.get("binary_sensor.bob_connection") is None
    root = await async_browse_media(hass, ROOT)
    assert "Bob" not in {child.title for child in root.children}

    async def told() -> bool:
        (friend,) = (await bob.peers())["friends"]
        return friend["unfriended"] and not friend["online"]

    await until(told)


async def test_who_parted_is_a_repair_issue_until_it_is_removed(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    bob: EngineHome,
    issue_registry: object,
) -> None:
    await befriend(hass, entry, bob)
    await until_listed(hass, entry, bob)

    await bob.configure(friends=[])

    issue = f"unfriended_{find_friend(entry, bob.id).subentry_id}"
    await eventually(
        hass, lambda: issue_registry.async_get_issue(DOMAIN, issue) is not None
    )
    hass.config_entries.async_remove_subentry(
        entry, find_friend(entry, bob.id).subentry_id
    )
    await eventually(
        hass, lambda: issue_registry.async_get_issue(DOMAIN, issue) is None
    )


async def test_a_new_identity_has_no_friends(
    hass: HomeAssistant, entry: MockConfigEntry, bob: EngineHome
) -> None:
    await befriend(hass, entry, bob)
    before = own_id(entry)
    options = hass.config_entries.options
    menu = await options.async_init(entry.entry_id)
    form = await options.async_configure(
        menu["flow_id"], {"next_step_id": "new_identity"}
    )
    assert form["description_placeholders"] == {"id": grouped(before), "friends": "1"}
    form = await options.async_configure(menu["flow_id"], {"confirm": False})
    assert form["errors"] == {"confirm": "not_confirmed"}
    assert own_id(entry) == before

    result = await options.async_configure(menu["flow_id"], {"confirm": True})

    assert result["reason"] == "identity_renewed"

    def is_known() -> bool:
        # For a moment it is nobody.
        peers = entry.runtime_data.coordinator.data.peers
        return peers is not None and peers.id != before

    await eventually(hass, is_known)
    assert result["description_placeholders"]["id"] == grouped(own_id(entry))
    assert entry.get_subentries_of_type(SUBENTRY_FRIEND) == []


async def test_a_film_of_a_friend_is_played_by_an_action(
    hass: HomeAssistant, entry: MockConfigEntry, bob: EngineHome
) -> None:
    await befriend(hass, entry, bob)
    await until_listed(hass, entry, bob)
    calls = []
    hass.services.async_register("media_player", "play_media", calls.append)

    await hass.services.async_call(
        DOMAIN,
        "play_from_friend",
        {"entity_id": "media_player.tv", "friend": "Bob", "query": "ocean"},
        blocking=True,
    )

    (call,) = calls
    assert call.data["entity_id"] == ["media_player.tv"]
    assert call.data["media_content_id"].startswith(f"{ROOT}/home/{bob.id}/")
    assert call.data["media_content_type"] == "video/mp4"
    resolved = await async_resolve_media(hass, call.data["media_content_id"], None)
    assert resolved.mime_type == "video/mp4"
