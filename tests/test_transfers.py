"""Watching transfers over the WebSocket API."""

import asyncio
import os
import signal
from typing import Any

from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import (
    MockHAClientWebSocket,
    WebSocketGenerator,
)

from custom_components.pemus.const import DOMAIN
from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.p2p.models import ErrorKey
from custom_components.pemus.p2p.models.items import ItemRef
from custom_components.pemus.p2p.models.transfers import Transfers
from custom_components.pemus.transfers import DATA_WATCH
from tests.lab.engine_home import NAME, EngineHome
from tests.patience import PATIENCE

from .household import eventually, introduce


async def subscribe(client: MockHAClientWebSocket) -> int:
    """Begin to watch; return the subscription's number."""
    await client.send_json_auto_id({"type": "pemus/transfers/subscribe"})
    answer = await client.receive_json()
    assert answer["success"]
    return answer["id"]


async def told(client: MockHAClientWebSocket) -> list[dict[str, Any]]:
    """Return the next list."""
    async with asyncio.timeout(PATIENCE):
        message = await client.receive_json()
    assert message["type"] == "event"
    return message["event"]["transfers"]


async def nothing(client: MockHAClientWebSocket) -> None:
    """See that nothing was told up to now."""
    await client.send_json_auto_id({"type": "ping"})
    assert (await client.receive_json())["type"] == "pong"


async def item_of(neighbour: EngineHome, title: str) -> str:
    """Return the id of one of the other home's items."""
    return next(
        item for item, name in (await neighbour.items()).items() if name == title
    )


async def test_transfers_are_told_until_they_are_complete(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    neighbour: EngineHome,
    hass_ws_client: WebSocketGenerator,
    hass_read_only_access_token: str,
) -> None:
    # To watch one need not be an administrator.
    client = await hass_ws_client(hass, hass_read_only_access_token)
    await subscribe(client)
    assert await told(client) == []
    item = await item_of(neighbour, "Ocean")

    await entry.runtime_data.engine.client.pin(ItemRef(neighbour.id, item))
    while (transfers := await told(client))[0]["state"] != "complete":
        assert transfers[0]["pinned"]

    (transfer,) = transfers
    assert transfer["owner"] == neighbour.id
    assert transfer["owner_name"] == NAME
    assert transfer["item"] == item
    assert transfer["title"] == "Ocean"
    assert transfer["kind"] == "video"
    assert transfer["done"] == transfer["size"] > 0
    assert not {"address", "endpoints", "ip", "port"} & transfer.keys()
    for address in ("127.0.0.1", "192.", "10.", "172."):
        assert address not in str({**transfer, "used": 0})


async def test_two_who_watch_are_told_the_same_and_who_leaves_nothing(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    neighbour: EngineHome,
    hass_ws_client: WebSocketGenerator,
) -> None:
    watch = hass.data[DATA_WATCH]
    first, second = await hass_ws_client(hass), await hass_ws_client(hass)
    number = await subscribe(first)
    assert await told(first) == []
    await subscribe(second)
    # Known by now, and told at once.
    assert await told(second) == []

    await first.send_json_auto_id(
        {"type": "unsubscribe_events", "subscription": number}
    )
    assert (await first.receive_json())["success"]
    item = await item_of(neighbour, "Ocean")
    await entry.runtime_data.engine.client.pin(ItemRef(neighbour.id, item))
    assert (await told(second))[0]["item"] == item
    await nothing(first)

    # With the last one who watches, the watching ends.
    await second.close()
    await eventually(hass, lambda: watch._task is None)


async def test_the_watching_survives_engine_and_home(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    neighbour: EngineHome,
    hass_ws_client: WebSocketGenerator,
) -> None:
    coordinator = entry.runtime_data.coordinator
    client = await hass_ws_client(hass)
    await subscribe(client)
    assert await told(client) == []

    os.kill(coordinator.data.pid, signal.SIGKILL)
    await eventually(hass, lambda: not coordinator.last_update_success)
    await eventually(hass, lambda: coordinator.last_update_success)
    item = await item_of(neighbour, "Ocean")
    await introduce(entry, neighbour)
    await coordinator.engine.client.pin(ItemRef(neighbour.id, item))
    while (transfers := await told(client))[0]["state"] != "complete":
        assert transfers[0]["item"] == item

    await hass.config_entries.async_set_disabled_by(
        entry.entry_id, ConfigEntryDisabler.USER
    )
    while await told(client):
        pass
    await hass.config_entries.async_set_disabled_by(entry.entry_id, None)
    assert (await told(client))[0]["item"] == item


async def test_a_home_that_is_not_set_up_transfers_nothing(
    hass: HomeAssistant, hass_ws_client: WebSocketGenerator
) -> None:
    assert await async_setup_component(hass, DOMAIN, {})
    client = await hass_ws_client(hass)

    await subscribe(client)

    assert await told(client) == []


async def test_an_engine_that_cannot_reach_other_homes_transfers_nothing(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    hass_ws_client: WebSocketGenerator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse() -> None:
        raise EngineError(ErrorKey.UNAVAILABLE, "libtorrent does not run")

    monkeypatch.setattr(entry.runtime_data.engine.client, "transfers", refuse)
    client = await hass_ws_client(hass)

    await subscribe(client)

    assert await told(client) == []


async def test_an_engine_that_does_not_answer_is_asked_again(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    hass_ws_client: WebSocketGenerator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = entry.runtime_data.engine.client
    transfers, asked = client.transfers, 0

    async def fail_first() -> Transfers:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise EngineUnavailable("it fell silent")
        return await transfers()

    monkeypatch.setattr(client, "transfers", fail_first)
    browser = await hass_ws_client(hass)

    await subscribe(browser)

    assert await told(browser) == []
    assert asked == 2
