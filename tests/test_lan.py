"""This home and others in the local network, with real mDNS on the loopback interface."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from datetime import timedelta
from ipaddress import ip_address
from itertools import pairwise
import secrets
from typing import Any
from unittest.mock import patch

from homeassistant.components import zeroconf as ha_zeroconf
from homeassistant.components.network.network import async_get_network
from homeassistant.components.zeroconf.const import DATA_INSTANCE
from homeassistant.components.zeroconf.models import HaAsyncZeroconf
from homeassistant.config_entries import (
    SOURCE_IGNORE,
    SOURCE_ZEROCONF,
    ConfigEntryState,
)
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.util import dt as dt_util
from hypothesis import HealthCheck, given, settings, strategies as st
import ifaddr
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    async_fire_time_changed,
)
from zeroconf import Error as ZeroconfError, ServiceStateChange
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from custom_components.pemus.const import CONF_LAN_VISIBLE, DOMAIN
from custom_components.pemus.engine.client import EngineUnavailable
from custom_components.pemus.friends import lan
from custom_components.pemus.friends.dialogs import END_TIMEOUT
from custom_components.pemus.friends.lan import (
    MAX_ADDRESSES,
    MAX_HOMES,
    SERVICE_TYPE,
    own_addresses,
    read_home,
    read_service,
    usable,
)
from custom_components.pemus.p2p.models import Hello
from custom_components.pemus.p2p.models.homes import LanHome, PairingState
from custom_components.pemus.p2p.models.pemus_id import pemus_id

from .household import (
    ADA,
    BEN,
    HOME_ID,
    Stage,
    befriend,
    engine_says,
    eventually,
    noticed,
    pairing,
    request,
)
from .test_pairings import dialogs

LOOPBACK = ["127.0.0.1"]
HARM = pemus_id(b"harm" * 8)
"""Another home."""
OWN_ADDRESS = "10.10.10.10"
"""That the harness gives the machine."""


@pytest.fixture
async def quiet_network(
    hass: HomeAssistant, socket_enabled: None
) -> AsyncGenerator[None]:
    """Let mDNS be real, but only on this machine."""
    responder = HaAsyncZeroconf(interfaces=LOOPBACK)
    hass.data[DATA_INSTANCE] = responder
    yield
    await responder.ha_async_close()
    await silent(responder)


@pytest.fixture
def entry(staged_entry: MockConfigEntry) -> MockConfigEntry:
    """Do without a real engine: the stage says what happens."""
    return staged_entry


@pytest.fixture
async def street(socket_enabled: None) -> AsyncGenerator[AsyncZeroconf]:
    """Give another machine in the network a voice."""
    responder = AsyncZeroconf(interfaces=LOOPBACK)
    yield responder
    await responder.async_close()
    await silent(responder)


async def silent(responder: AsyncZeroconf) -> None:
    """Wait until nothing that was about to be said when it was closed has a timer any more: zeroconf lets them run out."""
    queues = responder.zeroconf.out_queue, responder.zeroconf.out_delay_queue
    async with asyncio.timeout(5):
        while any(each.queue for each in queues):
            await asyncio.sleep(0.02)


@pytest.fixture
def home() -> str:
    """Return the id of a home that nobody else's test knows."""
    return pemus_id(secrets.token_bytes(32))


def service(
    home: str,
    *,
    label: str | None = None,
    port: int = 40000,
    addresses: tuple[str, ...] = ("10.10.10.20",),
    **properties: Any,
) -> AsyncServiceInfo:
    """Return a home as another machine advertises it."""
    return AsyncServiceInfo(
        SERVICE_TYPE,
        f"{label or home}.{SERVICE_TYPE}",
        server=f"{label or home}.local.",
        port=port,
        parsed_addresses=list(addresses),
        properties={"id": home, "name": "Ada's home", "v": "1"} | properties,
    )


def told(stage: Stage, home: str) -> list[LanHome]:
    """Return what the engine was told of a home last."""
    homes = stage.said("lan_homes")
    return [each for each in homes[-1].homes if each.id == home] if homes else []


async def advertised(street: AsyncZeroconf, home: str) -> AsyncServiceInfo | None:
    """Return what the network knows of a home."""
    info = AsyncServiceInfo(SERVICE_TYPE, f"{home}.{SERVICE_TYPE}")
    return info if await info.async_request(street.zeroconf, 3000) else None


def registered(hass: HomeAssistant, home: str) -> AsyncServiceInfo | None:
    """Return what this machine says of a home."""
    registry = hass.data[DATA_INSTANCE].zeroconf.registry
    return registry.async_get_info_name(f"{home}.{SERVICE_TYPE}".lower())


async def test_this_home_is_advertised_as_long_as_it_can_be_reached(
    hass: HomeAssistant, entry: MockConfigEntry, street: AsyncZeroconf, home: str
) -> None:
    stage = Stage(entry)
    stage.push(id=home, port=41234)
    await eventually(hass, lambda: registered(hass, home) is not None)

    info = await advertised(street, home)
    assert info.port == 41234
    assert info.parsed_addresses() == [OWN_ADDRESS]
    assert info.decoded_properties == {"id": home, "name": "Casa", "v": "1"}

    hass.config_entries.async_update_entry(entry, title="Häuschen " * 40)
    await eventually(
        hass,
        lambda: "Häuschen" in registered(hass, home).decoded_properties["name"],
    )
    assert len(registered(hass, home).properties[b"name"]) <= lan.MAX_VALUE
    stage.push(port=42345)
    await eventually(hass, lambda: registered(hass, home).port == 42345)

    # While the engine is down there is nothing to be reached.
    stage.coordinator.engine.status = None
    stage.coordinator.async_update_listeners()
    await eventually(hass, lambda: registered(hass, home) is None)
    stage.tell()
    await eventually(hass, lambda: registered(hass, home) is not None)

    await hass.config_entries.async_unload(entry.entry_id)
    assert registered(hass, home) is None


async def test_without_a_port_nothing_is_advertised_and_a_new_identity_is(
    hass: HomeAssistant, entry: MockConfigEntry, home: str
) -> None:
    stage = Stage(entry)
    stage.push(id=home, port=0)
    await hass.async_block_till_done()
    assert registered(hass, home) is None

    stage.push(port=40000)
    await eventually(hass, lambda: registered(hass, home) is not None)
    other = pemus_id(secrets.token_bytes(32))
    stage.push(id=other)
    await eventually(hass, lambda: registered(hass, other) is not None)
    assert registered(hass, home) is None


async def test_a_home_in_the_network_is_told_to_the_engine_and_offered(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    street: AsyncZeroconf,
    home: str,
) -> None:
    info = service(home)
    await (await street.async_register_service(info))
    await eventually(hass, lambda: bool(told(stage, home)))

    assert told(stage, home) == [
        LanHome(id=home, name="Ada's home", addresses=("10.10.10.20",), port=40000)
    ]
    await eventually(
        hass,
        lambda: home in {each["context"]["unique_id"] for each in dialogs(hass)},
    )

    moved = service(home, port=40001, addresses=("10.10.10.21",))
    await (await street.async_update_service(moved))
    await eventually(hass, lambda: told(stage, home)[0].port == 40001)
    await (await street.async_unregister_service(moved))
    await eventually(hass, lambda: not told(stage, home))


def offered(hass: HomeAssistant, home: str) -> list[str]:
    """Return the steps of the dialogs about a home that the local network shows."""
    return [
        dialog["step_id"]
        for dialog in dialogs(hass)
        if dialog["context"]["unique_id"] == home
    ]


async def test_a_home_that_left_is_offered_no_more(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    street: AsyncZeroconf,
    home: str,
) -> None:
    info, twin = service(home), service(home, label=f"twin of {home}")
    await (await street.async_register_service(info))
    await (await street.async_register_service(twin))
    await eventually(hass, lambda: offered(hass, home) == ["zeroconf_confirm"])

    await (await street.async_unregister_service(info))
    await eventually(hass, lambda: len(told(stage, home)) == 1)
    assert offered(hass, home) == ["zeroconf_confirm"]
    await (await street.async_unregister_service(twin))
    await eventually(hass, lambda: not told(stage, home))
    assert offered(hass, home) == []

    # One that comes back is offered again.
    await (await street.async_register_service(service(home)))
    await eventually(hass, lambda: offered(hass, home) == ["zeroconf_confirm"])
    # One that can be reached no more has left, too.
    await (await street.async_update_service(service(home, port=1)))
    await eventually(hass, lambda: offered(hass, home) == [])


async def test_who_was_asked_already_is_waited_for_after_it_left(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    street: AsyncZeroconf,
    home: str,
) -> None:
    info = service(home)
    await (await street.async_register_service(info))
    await eventually(hass, lambda: offered(hass, home) == ["zeroconf_confirm"])
    (dialog,) = (each for each in dialogs(hass) if each["context"]["unique_id"] == home)
    await hass.config_entries.flow.async_configure(dialog["flow_id"], {})
    stage.push(pairing(home))

    await (await street.async_unregister_service(info))
    await eventually(hass, lambda: not told(stage, home))

    assert offered(hass, home) == ["waiting"]


async def test_a_home_that_is_not_visible_neither_shows_itself_nor_looks_at_others(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    street: AsyncZeroconf,
    home: str,
) -> None:
    other = pemus_id(secrets.token_bytes(32))
    stage = Stage(entry)
    stage.push(id=home)
    await (await street.async_register_service(service(other)))
    await eventually(hass, lambda: offered(hass, other) == ["zeroconf_confirm"])
    await eventually(hass, lambda: registered(hass, home) is not None)

    def see(visible: bool) -> None:
        options = {**entry.options, CONF_LAN_VISIBLE: visible}
        hass.config_entries.async_update_entry(entry, options=options)

    see(False)
    # Whether or not the engine has closed its port yet.
    await eventually(hass, lambda: registered(hass, home) is None)
    await eventually(hass, lambda: not told(stage, other))
    assert stage.home.configuration.config.lan_visible is False
    assert offered(hass, other) == []
    # Home Assistant's own discovery finds it all the same.
    found = ha_zeroconf.info_from_service(service(other))
    result = await hass.config_entries.flow.async_init(
        DOMAIN, context={"source": SOURCE_ZEROCONF}, data=found
    )
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "not_visible")
    await look(hass)
    assert not told(stage, other)
    assert registered(hass, home) is None

    see(True)
    await eventually(hass, lambda: offered(hass, other) == ["zeroconf_confirm"])
    await eventually(hass, lambda: registered(hass, home) is not None)


@pytest.mark.parametrize("state", [PairingState.DENIED, PairingState.EXPIRED, None])
async def test_a_home_is_offered_again_when_the_request_came_to_nothing(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    street: AsyncZeroconf,
    home: str,
    state: PairingState | None,
) -> None:
    await (await street.async_register_service(service(home)))
    await eventually(hass, lambda: offered(hass, home) == ["zeroconf_confirm"])
    (dialog,) = (each for each in dialogs(hass) if each["context"]["unique_id"] == home)
    configure = hass.config_entries.flow.async_configure
    await configure(dialog["flow_id"], {})
    stage.push(pairing(home))

    stage.push(*[pairing(home, state=state)] if state else [])
    await eventually(hass, lambda: offered(hass, home) == ["end"])
    # Nobody looks at how it ended.
    async_fire_time_changed(hass, dt_util.utcnow() + timedelta(seconds=END_TIMEOUT + 1))
    await eventually(hass, lambda: offered(hass, home) != ["end"])
    await look(hass)
    await eventually(hass, lambda: offered(hass, home) == ["zeroconf_confirm"])


async def test_a_home_is_offered_again_when_it_is_no_friend_any_more(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    street: AsyncZeroconf,
    home: str,
) -> None:
    friend = befriend(hass, entry, home)
    await (await street.async_register_service(service(home)))
    await eventually(hass, lambda: bool(told(stage, home)))
    assert offered(hass, home) == []

    hass.config_entries.async_remove_subentry(entry, friend.subentry_id)
    await eventually(hass, lambda: offered(hass, home) == ["zeroconf_confirm"])


async def test_a_request_goes_on_after_a_restart_where_it_was(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    street: AsyncZeroconf,
    home: str,
) -> None:
    stage.push(pairing(home))

    await (await street.async_register_service(service(home)))

    await eventually(hass, lambda: offered(hass, home) == ["waiting"])
    stage.push(request(home, incoming=False))
    await eventually(hass, lambda: offered(hass, home) == ["compare"])
    (dialog,) = (each for each in dialogs(hass) if each["context"]["unique_id"] == home)
    menu = await hass.config_entries.flow.async_configure(dialog["flow_id"])
    assert menu["description_placeholders"]["words"] == "acorn book camel drum"


async def test_who_is_set_aside_is_not_offered(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    street: AsyncZeroconf,
    home: str,
) -> None:
    MockConfigEntry(domain=DOMAIN, unique_id=ADA, source=SOURCE_IGNORE).add_to_hass(
        hass
    )
    stage.push(request(HARM, confirmed=True), blocked=(BEN,))
    for each in (ADA, BEN, HARM):
        info = service(each, label=f"{each} of {home}")
        await (await street.async_register_service(info))
        await eventually(hass, lambda each=each: bool(told(stage, each)))
    await look(hass)
    assert not offered(hass, ADA) + offered(hass, BEN) + offered(hass, HARM)


@pytest.fixture
async def first(street: AsyncZeroconf, home: str) -> str:
    """Have a home in the network before this one is set up."""
    await (await street.async_register_service(service(home)))
    return home


async def test_a_home_that_was_there_first_is_found(
    hass: HomeAssistant, first: str, entry: MockConfigEntry, stage: Stage
) -> None:
    await eventually(hass, lambda: bool(told(stage, first)))
    await eventually(
        hass,
        lambda: first in {each["context"]["unique_id"] for each in dialogs(hass)},
    )


async def test_friends_and_oneself_are_not_offered(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    street: AsyncZeroconf,
    home: str,
) -> None:
    befriend(hass, entry, home)
    mirror = service(HOME_ID, label=f"copy of {home}")
    await (await street.async_register_service(mirror))
    await (await street.async_register_service(service(home)))
    await eventually(hass, lambda: bool(told(stage, home)))

    assert not told(stage, HOME_ID)
    offered = {each["context"]["unique_id"] for each in dialogs(hass)}
    assert not {home, HOME_ID} & offered


async def test_an_engine_that_was_away_is_told_again(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    street: AsyncZeroconf,
    home: str,
) -> None:
    stage.error = EngineUnavailable("it is gone")
    await (await street.async_register_service(service(home)))
    await eventually(hass, lambda: bool(told(stage, home)))
    stage.error = None
    stage.asked.clear()

    stage.tell()
    await eventually(hass, lambda: bool(told(stage, home)))
    stage.asked.clear()
    stage.tell()
    await hass.async_block_till_done()
    assert not stage.said("lan_homes")

    engine_says(stage.home, Hello(status=stage.coordinator.engine.status))
    await eventually(hass, lambda: bool(told(stage, home)))


async def test_a_network_that_cannot_be_spoken_to_is_tried_again(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    home: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage(entry)
    responder = hass.data[DATA_INSTANCE]
    with patch.object(
        responder, "async_register_service", side_effect=ZeroconfError("full")
    ):
        stage.push(id=home)
        await eventually(hass, lambda: "Failed to advertise this home" in caplog.text)
    assert caplog.text.count("Failed to advertise this home") == 1

    stage.push(port=40001)
    await eventually(hass, lambda: registered(hass, home) is not None)
    with patch.object(
        responder, "async_unregister_service", side_effect=ZeroconfError("gone")
    ):
        await hass.config_entries.async_unload(entry.entry_id)


async def test_a_registration_that_failed_is_tried_again_later_and_later(
    hass: HomeAssistant, entry: MockConfigEntry, home: str
) -> None:
    stage = Stage(entry)
    responder = hass.data[DATA_INSTANCE]
    register = responder.async_register_service
    attempts: list[float] = []

    async def fail(*arguments: Any, **options: Any) -> Any:
        attempts.append(time)
        if len(attempts) <= 3:
            raise ZeroconfError("full")
        return await register(*arguments, **options)

    time = 0.0
    with patch.object(responder, "async_register_service", fail):
        stage.push(id=home)
        while len(attempts) < 4:
            # News of other things is no reason to try it again.
            stage.tell()
            await hass.async_block_till_done(wait_background_tasks=False)
            time += 5.0
            async_fire_time_changed(hass, dt_util.utcnow() + timedelta(seconds=time))
            await noticed(hass)
            assert time < 300
        await eventually(hass, lambda: registered(hass, home) is not None)
    pauses = [later - former for former, later in pairwise(attempts)]
    assert pauses == sorted(pauses)
    assert pauses[0] >= lan.RETRY_DELAY_MIN.total_seconds()
    assert pauses[-1] > pauses[0]


async def test_what_failed_before_this_home_was_hidden_counts_no_more(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    home: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def warnings() -> int:
        return sum(
            record.levelname == "WARNING"
            and "Failed to advertise this home" in record.message
            for record in caplog.records
        )

    stage = Stage(entry)
    responder = hass.data[DATA_INSTANCE]
    with patch.object(
        responder, "async_register_service", side_effect=ZeroconfError("full")
    ) as register:
        stage.push(id=home)
        await eventually(hass, lambda: warnings() == 1)
        stage.push(port=0)
        await noticed(hass)
        # Nothing is tried that nobody wants, and what is wanted next is tried as if for the first time.
        later = dt_util.utcnow() + lan.RETRY_DELAY_MAX + timedelta(seconds=1)
        async_fire_time_changed(hass, later)
        await noticed(hass)
        assert register.call_count == 1
        stage.push(port=40001)
        await eventually(hass, lambda: register.call_count == 2)
        await eventually(hass, lambda: warnings() == 2)


async def test_a_mistake_of_ours_does_not_end_what_is_said_of_this_home(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    home: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage(entry)
    responder = hass.data[DATA_INSTANCE]
    with patch.object(
        responder, "async_register_service", side_effect=RuntimeError("our mistake")
    ):
        stage.push(id=home)
        await eventually(hass, lambda: "our mistake" in caplog.text)

    # It is tried again by itself.
    later = dt_util.utcnow() + lan.RETRY_DELAY_MIN + timedelta(seconds=1)
    async_fire_time_changed(hass, later)
    await eventually(hass, lambda: registered(hass, home) is not None)


class Machine:
    """The network adapters of this machine, as the operating system lists them."""

    def __init__(self) -> None:
        """Have one adapter, with the address that the harness knows of."""
        self.adapters: dict[str, list[str]] = {"lo": LOOPBACK, "eth0": [OWN_ADDRESS]}
        self.source: str | None = OWN_ADDRESS
        """The address from which the network is spoken to."""
        self.error: OSError | None = None

    def list(self) -> list[ifaddr.Adapter]:
        """Return the adapters."""
        if self.error is not None:
            raise self.error
        return [
            ifaddr.Adapter(
                name,
                name,
                [
                    ifaddr.IP((text, 0, 2), 64, name)
                    if ":" in text
                    else ifaddr.IP(text, 24, name)
                    for text in texts
                ],
                index,
            )
            for index, (name, texts) in enumerate(self.adapters.items())
        ]

    def move(self, *addresses: str) -> None:
        """Give the machine these addresses, and no others."""
        self.adapters["eth0"] = list(addresses)
        v4 = [each for each in addresses if ":" not in each]
        self.source = v4[0] if v4 else None


@pytest.fixture
def machine() -> Generator[Machine]:
    """Give this home a machine whose network changes. All that Home Assistant makes of it is real."""
    ours = Machine()
    with (
        patch("ifaddr.get_adapters", ours.list),
        patch(
            "homeassistant.components.network.util.async_get_source_ip",
            lambda to: to if ip_address(to).is_loopback else ours.source,
        ),
    ):
        yield ours


async def look(hass: HomeAssistant) -> None:
    """Let the time pass after which this home looks at its addresses."""
    later = dt_util.utcnow() + lan.CHECK_INTERVAL + timedelta(seconds=1)
    async_fire_time_changed(hass, later)
    await hass.async_block_till_done()


async def test_changed_addresses_are_advertised_and_tried(
    machine: Machine, hass: HomeAssistant, entry: MockConfigEntry, home: str
) -> None:
    stage = Stage(entry)
    stage.push(id=home)
    await eventually(hass, lambda: registered(hass, home) is not None)
    await look(hass)
    assert ("network_changed",) not in stage.asked

    machine.move("10.10.10.11", "fe80::1", "2001:db8::5")
    stage.error = EngineUnavailable("it is gone")
    await look(hass)
    assert ("network_changed",) in stage.asked
    await eventually(
        hass, lambda: registered(hass, home).parsed_addresses() != [OWN_ADDRESS]
    )
    assert registered(hass, home).parsed_addresses() == ["10.10.10.11", "2001:db8::5"]

    # Which of two homes with one identity gives way is not for the network to say.
    stage.asked.clear()
    stage.push(superseded=True)
    machine.move("10.10.10.12")
    await look(hass)
    assert ("network_changed",) not in stage.asked


@pytest.fixture
def v6_only(machine: Machine) -> None:
    """Give this home a network without IPv4."""
    machine.move("fe80::1", "2001:db8::5")


async def test_a_home_without_ipv4_is_set_up_and_advertised(
    v6_only: None,
    hass: HomeAssistant,
    entry: MockConfigEntry,
    home: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert entry.state is ConfigEntryState.LOADED
    Stage(entry).push(id=home)
    await eventually(hass, lambda: registered(hass, home) is not None)

    assert registered(hass, home).parsed_addresses() == ["2001:db8::5"]
    caplog.clear()
    await look(hass)
    assert "IPv4" not in caplog.text


async def test_a_network_that_cannot_be_spoken_to_yet_is_no_obstacle(
    hass: HomeAssistant, entry: MockConfigEntry, home: str
) -> None:
    assert await hass.config_entries.async_unload(entry.entry_id)
    with patch.object(
        lan.zeroconf, "async_get_async_instance", side_effect=OSError("no such device")
    ):
        assert await hass.config_entries.async_setup(entry.entry_id)
        Stage(entry).push(id=home)
        await look(hass)
    assert registered(hass, home) is None

    await look(hass)
    await eventually(hass, lambda: registered(hass, home) is not None)


@pytest.fixture
def cut_off(machine: Machine) -> None:
    """Give this home no network at all."""
    machine.move()


async def test_a_home_that_starts_before_its_network_is_advertised_when_that_comes(
    cut_off: None,
    machine: Machine,
    hass: HomeAssistant,
    entry: MockConfigEntry,
    home: str,
) -> None:
    assert entry.state is ConfigEntryState.LOADED
    stage = Stage(entry)
    stage.push(id=home)
    await look(hass)
    assert registered(hass, home) is None

    machine.move("10.10.10.11")
    await look(hass)
    await eventually(hass, lambda: registered(hass, home) is not None)
    assert ("network_changed",) in stage.asked

    # What cannot be read is no change.
    machine.error = OSError("too many open files")
    stage.asked.clear()
    await look(hass)
    assert stage.asked == []
    assert registered(hass, home).parsed_addresses() == ["10.10.10.11"]


async def test_only_the_adapters_that_home_assistant_uses_count(
    machine: Machine, hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    machine.adapters["docker0"] = ["172.17.0.1"]
    assert await own_addresses(hass) == (OWN_ADDRESS,)

    machine.adapters["eth0"] = ["10.10.10.9", OWN_ADDRESS]
    network = await async_get_network(hass)
    await network.async_reconfig({"configured_adapters": ["docker0", "eth0"]})
    assert await own_addresses(hass) == (OWN_ADDRESS, "10.10.10.9", "172.17.0.1")


@pytest.fixture
def no_network(machine: Machine) -> None:
    """Give this home no other address than that of the machine itself."""
    machine.adapters = {"lo": LOOPBACK}
    machine.source = "127.0.0.1"


async def test_a_home_without_a_network_finds_those_on_its_own_machine(
    no_network: None,
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    street: AsyncZeroconf,
    home: str,
) -> None:
    await (await street.async_register_service(service(home, addresses=("127.0.0.1",))))

    await eventually(hass, lambda: bool(told(stage, home)))
    assert told(stage, home)[0].addresses == ("127.0.0.1",)


# What others may advertise


def test_a_service_is_a_home_only_if_it_says_which() -> None:
    assert read_service({"id": ADA, "name": "Ada"}) == (ADA, "Ada")
    for properties in (
        {},
        {"id": None},
        {"id": ""},
        {"id": ADA.lower()},
        {"id": f" {ADA}"},
        {"id": f"{ADA[:-1]}U"},
        {"id": "A" * 28},
        {"id": "../" * 9},
        {"id": b"x"},
    ):
        assert read_service(properties) is None, properties
    assert read_service({"id": ADA, "name": None}) == (ADA, "")
    assert read_service({"id": ADA, "name": "a\n\x00b" * 99})[1].isprintable()


# What is slow here is the machine.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    properties=st.dictionaries(
        st.sampled_from(["id", "name", "v"]), st.one_of(st.none(), st.text())
    )
)
def test_no_txt_record_is_too_odd(properties: dict[str, str | None]) -> None:
    found = read_service(properties)
    assert found is None or found[0] == properties["id"]


@pytest.mark.parametrize(
    ("given_addresses", "found"),
    [
        (["10.0.0.1", "10.0.0.1"], ("10.0.0.1",)),
        (["127.0.0.1", "::1"], ()),
        (["0.0.0.0", "::", "224.0.0.251", "ff02::fb", "240.0.0.1"], ()),
        (["fe80::1", "fe80::1%3"], ()),
        (["fd00::1", "2001:db8::1"], ("fd00::1", "2001:db8::1")),
        (["169.254.3.4"], ("169.254.3.4",)),
        (["", "x", "10.0.0.1.2", "10.0.0.1/8"], ()),
    ],
)
def test_only_addresses_at_which_there_can_be_a_home_are_kept(
    given_addresses: list[str], found: tuple[str, ...]
) -> None:
    assert usable(given_addresses) == found


def test_a_home_needs_an_address_and_a_port() -> None:
    assert read_home(service(ADA)) is not None
    assert read_home(service(ADA, port=80)) is None
    assert read_home(service(ADA, port=0)) is None
    assert read_home(service(ADA, addresses=("127.0.0.1",))) is None
    assert read_home(service(ADA, addresses=("127.0.0.1",)), on_loopback=True)
    assert read_home(service(ADA, id="x")) is None
    many = tuple(f"10.0.0.{number}" for number in range(1, 50))
    assert len(read_home(service(ADA, addresses=many)).addresses) == MAX_ADDRESSES


@pytest.fixture
def neighbours(hass: HomeAssistant, entry: MockConfigEntry) -> lan.LanNeighbours:
    """Watch the network beside the one that does so anyway, as a test feeds it."""
    home = entry.runtime_data
    watching = lan.LanNeighbours(
        hass, home.coordinator, home.configuration, home.pairings
    )
    watching._zeroconf = hass.data[DATA_INSTANCE]
    watching._addresses = (OWN_ADDRESS,)
    return watching


async def test_a_flood_of_homes_is_bounded(
    hass: HomeAssistant, stage: Stage, neighbours: lan.LanNeighbours
) -> None:
    with patch.object(lan.discovery_flow, "async_create_flow"):
        for number in range(MAX_HOMES + 20):
            home = pemus_id(number.to_bytes(32))
            neighbours._take(f"{number}.{SERVICE_TYPE}", service(home))
        assert len(neighbours._homes) == MAX_HOMES

        # One that is known may still change, and one that goes makes room.
        first = f"0.{SERVICE_TYPE}"
        home = pemus_id((0).to_bytes(32))
        neighbours._take(first, service(home, port=50000))
        assert neighbours._homes[first].port == 50000
        neighbours._take(first, service(home, port=1))
        assert first not in neighbours._homes
        neighbours._take("new", service(pemus_id(bytes(31) + b"\xff")))
        assert len(neighbours._homes) == MAX_HOMES


async def test_a_flood_of_names_is_looked_up_a_few_at_a_time(
    hass: HomeAssistant, stage: Stage, neighbours: lan.LanNeighbours
) -> None:
    responder = hass.data[DATA_INSTANCE].zeroconf
    for number in range(100):
        neighbours._on_service(
            responder,
            SERVICE_TYPE,
            f"nobody {number}.{SERVICE_TYPE}",
            ServiceStateChange.Added,
        )
    assert len(neighbours._lookups) == lan.MAX_LOOKUPS
    neighbours._on_service(
        responder, SERVICE_TYPE, "not of this type", ServiceStateChange.Added
    )
    neighbours._on_service(
        responder, SERVICE_TYPE, f"gone.{SERVICE_TYPE}", ServiceStateChange.Removed
    )

    await neighbours.async_stop()

    assert not neighbours._lookups


async def test_home_assistants_own_discovery_knows_of_homes(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    types = await ha_zeroconf.async_get_zeroconf(hass)

    assert types[SERVICE_TYPE] == [{"domain": DOMAIN}]
    assert SOURCE_ZEROCONF == "zeroconf"
