"""What a bug report tells, and what it does not."""

import json
import os
from pathlib import Path
import signal
from types import MappingProxyType

from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.discovery_flow import DiscoveryKey
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.components.diagnostics import (
    get_diagnostics_for_config_entry,
)
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator
from syrupy.assertion import SnapshotAssertion
from syrupy.filters import props

from custom_components.pemus.const import DOMAIN
from custom_components.pemus.engine.provision import Limit, LimitedReason
from custom_components.pemus.friends.terms import Terms, async_grant
from custom_components.pemus.p2p.models.homes import PathKind, ServerStatus
from custom_components.pemus.p2p.models.items import ItemRef
from custom_components.pemus.p2p.models.pemus_id import grouped
from tests.lab.engine_home import NAME, EngineHome

from .household import ADA, BEN, HOME_ID, Stage, befriend, eventually, friend, request

VARYING = (
    "capabilities",
    "created_at",
    "entry_id",
    "id",
    "last_scan",
    "modified_at",
    "pid",
    "port",
    "revision",
    "rss",
    "serial",
    "share",
    "size",
    "started",
    "subentry_id",
    # Of the status: how many bytes went where varies from moment to moment.
    "swarm",
    "version",
)


async def test_the_report_has_what_helps(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    media: Path,
    hass_client: ClientSessionGenerator,
    snapshot: SnapshotAssertion,
) -> None:
    report = await get_diagnostics_for_config_entry(hass, hass_client, entry)

    assert report == snapshot(exclude=props(*VARYING))
    status = report["engine"]["status"]
    assert status["pid"] == entry.runtime_data.coordinator.data.pid
    assert "av" in status["capabilities"]
    assert status["swarm"]["cache_used"] == 0
    assert report["config"]["swarm"]["upload_limit"] == 2_000_000


async def test_the_report_tells_of_transfers_but_not_whose_and_what(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    neighbour: EngineHome,
    hass_client: ClientSessionGenerator,
) -> None:
    for item in await neighbour.items():
        await entry.runtime_data.engine.client.pin(ItemRef(neighbour.id, item))

    report = await get_diagnostics_for_config_entry(hass, hass_client, entry)

    assert len(report["transfers"]) == 2
    for transfer in report["transfers"]:
        assert transfer["pinned"]
        assert transfer["size"] > 0
    text = json.dumps(report)
    for secret in (neighbour.id, NAME, "Ocean", "Mountain", "127.0.0.1"):
        assert secret not in text


async def test_an_engine_that_is_down_still_makes_a_report(
    hass: HomeAssistant, entry: MockConfigEntry, hass_client: ClientSessionGenerator
) -> None:
    coordinator = entry.runtime_data.coordinator
    os.kill(coordinator.data.pid, signal.SIGKILL)
    await eventually(hass, lambda: not coordinator.last_update_success)

    report = await get_diagnostics_for_config_entry(hass, hass_client, entry)

    assert report["engine"]["state"] == "restarting"
    assert report["transfers"] is None
    await eventually(hass, lambda: coordinator.last_update_success)


async def test_the_report_names_no_folder_and_nobody(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    media: Path,
    hass_client: ClientSessionGenerator,
) -> None:
    # A problem tells name and path to the user, but not to the report.
    media.rename(media.with_name("unplugged"))
    await entry.runtime_data.engine.client.rescan()
    await eventually(hass, lambda: bool(entry.runtime_data.coordinator.data.problems))

    report = json.dumps(
        await get_diagnostics_for_config_entry(hass, hass_client, entry)
    )

    for secret in (str(media), str(media.parent), "Media", "Casa", "Ocean", "Ada"):
        assert secret not in report
    assert "share_unavailable" in report
    assert await async_setup_component(hass, "homeassistant", {})


async def test_the_report_tells_how_friends_are_but_not_who(
    hass: HomeAssistant,
    staged_entry: MockConfigEntry,
    hass_client: ClientSessionGenerator,
) -> None:
    stage = Stage(staged_entry)
    befriend(hass, staged_entry, name="Ada Moll", note="next door")
    async_grant(hass, staged_entry, BEN, Terms(note="from school"))
    hass.config_entries.async_update_entry(
        staged_entry, options={"servers": ["https://signal.example/"]}
    )
    stage.push(
        request(BEN, name="Ben Quast", origin="192.168.1.77"),
        friends=(friend(path=PathKind.RELAYED, rtt=0.1, message=f"{ADA} said no"),),
        servers=(
            ServerStatus(
                url="https://signal.example/", connected=False, message="refused"
            ),
        ),
        blocked=(BEN,),
    )
    await hass.async_block_till_done()

    report = await get_diagnostics_for_config_entry(hass, hass_client, staged_entry)

    peers = report["engine"]["status"]["peers"]
    (known,) = peers["friends"]
    assert (known["link"], known["rtt"], known["online"]) == ("relayed", 0.1, True)
    (server,) = peers["signaling"]
    assert server["connected"] is False
    # One can still tell which is which.
    assert known["id"] == report["config"]["friends"][0]["id"]
    assert peers["pairings"][0]["home"] == peers["blocked"][0]
    assert len({peers["id"], known["id"], peers["blocked"][0]}) == 3
    text = json.dumps(report)
    for secret in (
        *(ADA, BEN, HOME_ID, "Ada", "Ben", "Casa", "next door", "from school"),
        *("192.168.1.77", "signal.example", "acorn"),
    ):
        assert secret not in text, secret


async def test_the_report_names_no_home_that_was_discovered_or_has_left(
    hass: HomeAssistant,
    staged_entry: MockConfigEntry,
    hass_client: ClientSessionGenerator,
    issue_registry: ir.IssueRegistry,
) -> None:
    stage = Stage(staged_entry)
    befriend(hass, staged_entry, name="Ada Moll")
    # As Home Assistant's zeroconf remembers which services have led to an entry.
    key = DiscoveryKey(
        domain="zeroconf",
        key=("_pemus._tcp.local.", f"{BEN.lower()}._pemus._tcp.local."),
        version=1,
    )
    hass.config_entries.async_update_entry(
        staged_entry, discovery_keys=MappingProxyType({"zeroconf": (key,)})
    )
    stage.push(friends=(friend(unfriended=True, message=f"{grouped(ADA)} left"),))
    await hass.async_block_till_done()
    assert [
        issue.translation_key
        for (domain, _), issue in issue_registry.issues.items()
        if domain == DOMAIN
    ] == ["unfriended"]

    # The whole file, as a user downloads it.
    assert await async_setup_component(hass, "diagnostics", {})
    client = await hass_client()
    answer = await client.get(f"/api/diagnostics/config_entry/{staged_entry.entry_id}")
    assert answer.status == 200
    text = (await answer.text()).upper()

    assert "UNFRIENDED_" in text
    for secret in (ADA, BEN, grouped(ADA), HOME_ID, "ADA MOLL"):
        assert secret not in text, secret


@pytest.mark.parametrize(
    "said",
    [
        "error: Failed to fetch: `https://ada:sesame@index.example/simple/av/`",
        "  cause: error sending request for url (http://index.example:8080/simple?key=sesame)",
        "warning: indexes ada:sesame@index.example and index+https://index.example/x",
        "error: failed to create /home/ada/.homeassistant/.cache/pemus/uv",
        "error: failed to read ~/sesame/pip.conf or ../ada/netrc, '/home/ada/my.pem'",
        "error: failed to fetch: `https://user:pa(sesame@pypi.lan/simple`",
        "warning: no index at user:pa's(sesame@pypi.lan:8080",
        'cause: invalid peer certificate: not valid for name "mirror.sesame.example"',
        "cause: dns error: no address for pypi.sesame.example or [2001:db8::5e5]:443",
        "cause: 2001:db8::5e5 or 2001:db8:1:2:3:4:5:5e5, nor is fe80::5e5%eth0 there",
        "cause: tcp connect error: 192.168.1.5:8080 and index.example refused it",
        'error: failed to open file "/config/My Films/.cache/x sesame/z"',
        'error: failed to open `/config/Ada\'s Films/sesame "1"/z`',
    ],
)
async def test_the_report_tells_why_there_is_no_environment_but_no_addresses(
    hass: HomeAssistant,
    staged_entry: MockConfigEntry,
    hass_client: ClientSessionGenerator,
    said: str,
) -> None:
    engine = staged_entry.runtime_data.engine
    engine.limited = LimitedReason(
        limit=Limit.OFFLINE,
        detail=f"{said}\nerror: connection refused",
        hosts=("index.example",),
    )

    report = await get_diagnostics_for_config_entry(hass, hass_client, staged_entry)

    limited = report["engine"]["limited"]
    assert limited["limit"] == "offline"
    assert "connection refused" in limited["detail"]
    text = json.dumps(report)
    for secret in (
        *("sesame", "index.example", "/ada", "homeassistant"),
        *("pypi", "example", "2001", "5e5", "192.168", "Films"),
    ):
        assert secret not in text, secret


async def test_the_report_tells_which_packages_and_versions_are_missing(
    hass: HomeAssistant,
    staged_entry: MockConfigEntry,
    hass_client: ClientSessionGenerator,
) -> None:
    said = "error: no wheels for python3.13 of `av==15.0.0`, only for 2.0.11"
    engine = staged_entry.runtime_data.engine
    engine.limited = LimitedReason(limit=Limit.UNSUPPORTED, detail=said)

    report = await get_diagnostics_for_config_entry(hass, hass_client, staged_entry)

    assert report["engine"]["limited"]["detail"] == said
