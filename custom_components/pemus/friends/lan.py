"""PeMuS homes in the local network, by mDNS: this one is advertised, and the others are told to the engine.

Home Assistant's own discovery shows them to the user; the engine has to know where they are now. Anybody in the network
may advertise anything: what does not look like a home is left out, and the rest proves nothing before the engine has
spoken with it.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address
import logging
from typing import Any, Final

from homeassistant.components import zeroconf
from homeassistant.components.network import util
from homeassistant.components.network.const import MDNS_TARGET_IP
from homeassistant.components.network.network import async_get_network
from homeassistant.components.zeroconf import info_from_service
from homeassistant.config_entries import SOURCE_ZEROCONF
from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers import discovery_flow
from homeassistant.helpers.discovery_flow import DiscoveryKey
from homeassistant.helpers.dispatcher import async_dispatcher_connect
from homeassistant.helpers.event import async_call_later, async_track_time_interval
from homeassistant.helpers.service_info.zeroconf import ZeroconfServiceInfo
from zeroconf import BadTypeInNameException, Error as ZeroconfError, ServiceStateChange
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from custom_components.pemus.configuration import SIGNAL_CONFIG_CHANGED, Configuration
from custom_components.pemus.const import DOMAIN
from custom_components.pemus.coordinator import PemusCoordinator
from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.options import FIRST_PORT
from custom_components.pemus.p2p.models import Event, Hello
from custom_components.pemus.p2p.models.homes import LanHome, LanHomes
from custom_components.pemus.p2p.models.pemus_id import read_id

from .pairings import Pairings
from .terms import clean_name

SERVICE_TYPE: Final = "_pemus._tcp.local."
PROTOCOL: Final = "1"

MAX_HOMES: Final = 200
MAX_ADDRESSES: Final = 8
"""Of one home."""
MAX_LOOKUPS: Final = 20
"""Homes whose addresses are asked for at the same time."""
LOOKUP_TIMEOUT: Final = 3000
"""Milliseconds, as zeroconf counts."""
MAX_VALUE: Final = 230
"""Bytes of a value in a TXT record."""
CHECK: Final = timedelta(seconds=60)
"""Time between two looks at this home's own addresses, of whose changes nobody tells, and at who is to be offered."""
FIRST_RETRY: Final = timedelta(seconds=10)
"""Time until this home is advertised again after that failed; twice as long each further time."""
LAST_RETRY: Final = timedelta(minutes=10)

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Advertised:
    """What is said of this home."""

    id: str
    name: str
    port: int
    addresses: tuple[str, ...]


def read_service(properties: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return PeMuS ID and name of the home that an mDNS service is of, None if it is of none."""
    said = properties.get("id")
    home = read_id(said) if isinstance(said, str) else None
    if home is None or home != said:
        return None
    name = properties.get("name")
    return home, clean_name(name) if isinstance(name, str) else ""


def read_home(info: AsyncServiceInfo, *, on_loopback: bool = False) -> LanHome | None:
    """Return the home that an mDNS service is of, and where it is, None if that makes no sense.

    `on_loopback`: this home itself can be reached at no other address, so that its neighbours run on this machine.
    """
    port = info.port or 0
    if (found := read_service(info.decoded_properties)) is None or port < FIRST_PORT:
        return None
    addresses = usable(info.parsed_scoped_addresses(), on_loopback=on_loopback)
    if not addresses:
        return None
    home, name = found
    return LanHome(id=home, name=name, addresses=addresses[:MAX_ADDRESSES], port=port)


def usable(addresses: Iterable[str], *, on_loopback: bool = False) -> tuple[str, ...]:
    """Return the addresses at which there can be a home, without repetitions."""
    found: dict[str, None] = {}
    for text in addresses:
        try:
            address = ip_address(text)
        except ValueError:
            continue
        if address.is_multicast or address.is_unspecified or address.is_reserved:
            continue
        # An IPv6 address that is good for one link only says nothing without the name of that link here.
        if isinstance(address, IPv6Address) and address.is_link_local:
            continue
        if not address.is_loopback or on_loopback:
            found[str(address)] = None
    return tuple(found)


async def own_addresses(hass: HomeAssistant) -> tuple[str, ...]:
    """Return the addresses of this home as they are at this moment, the usual one first; none without a network.

    They are those of the network adapters that Home Assistant is told to use. Its own list of addresses dates from its
    start. Raises OSError.
    """
    adapters = await util.async_load_adapters()
    chosen = (await async_get_network(hass)).configured_adapters
    if not util.enable_adapters(adapters, chosen):
        util.enable_auto_detected_adapters(adapters)
    found = [
        address["address"]
        for adapter in adapters
        if adapter["enabled"]
        for address in (*adapter["ipv4"], *adapter["ipv6"])
    ]
    # Some look at the first address only.
    source = util.async_get_source_ip(MDNS_TARGET_IP)
    found.sort(key=lambda address: address != source)
    if not usable(found) and source is not None:
        found.append(source)
    return usable(found) or usable(found, on_loopback=True)


class LanNeighbours:
    """Advertises this home and watches the others, for as long as the config entry is loaded."""

    def __init__(
        self,
        hass: HomeAssistant,
        coordinator: PemusCoordinator,
        configuration: Configuration,
        pairings: Pairings,
    ) -> None:
        """Prepare; nothing is sent yet."""
        self._hass = hass
        self._coordinator = coordinator
        self._configuration = configuration
        self._pairings = pairings
        self._entry = coordinator.config_entry
        self._homes: dict[str, LanHome] = {}
        """By the name of their service."""
        self._found: dict[str, ZeroconfServiceInfo] = {}
        """What to offer the user of them, likewise."""
        self._lookups: dict[str, asyncio.Task[None]] = {}
        self._told: LanHomes | None = None
        self._addresses: tuple[str, ...] = ()
        self._advertised: _Advertised | None = None
        self._failures = 0
        """Attempts to advertise this home that failed, in a row."""
        self._next_attempt: CALLBACK_TYPE | None = None
        self._service: AsyncServiceInfo | None = None
        self._news = asyncio.Event()
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._worker: asyncio.Task[None] | None = None

    async def async_start(self) -> None:
        """Begin. It ends with the entry."""
        await self._look()
        await self._connect()
        entry = self._entry
        entry.async_on_unload(self._coordinator.async_add_listener(self._news.set))
        entry.async_on_unload(
            async_dispatcher_connect(self._hass, SIGNAL_CONFIG_CHANGED, self._on_config)
        )
        entry.async_on_unload(self._coordinator.engine.async_subscribe(self._on_engine))
        entry.async_on_unload(
            async_track_time_interval(
                self._hass,
                self._check,
                CHECK,
                name="PeMuS in the local network",
                cancel_on_shutdown=True,
            )
        )
        self._news.set()
        self._worker = entry.async_create_background_task(
            self._hass, self._work(), "PeMuS in the local network"
        )

    async def async_stop(self) -> None:
        """Take back what is said of this home, and watch no more."""
        tasks = [task for task in (self._worker, *self._lookups.values()) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._wait_no_more()
        if self._browser is not None:
            await self._browser.async_cancel()
        await self._unregister()

    async def _connect(self) -> None:
        """Begin to speak with the local network, unless there is none yet."""
        try:
            self._zeroconf = await zeroconf.async_get_async_instance(self._hass)
        except (ZeroconfError, OSError) as err:
            _LOGGER.debug("There is no local network to speak with: %s", err)

    # This home

    async def _look(self) -> bool:
        """Look at this home's addresses; return whether they changed."""
        try:
            addresses = await own_addresses(self._hass)
        except OSError as err:
            _LOGGER.debug("The addresses of this home cannot be read: %s", err)
            return False
        before, self._addresses = self._addresses, addresses
        return addresses != before

    async def _check(self, _now: datetime) -> None:
        """Notice that this home's addresses changed: whatever waits for a connection should be tried again."""
        changed = await self._look()
        if self._zeroconf is None:
            await self._connect()
        # Also for what could not be offered before.
        self._news.set()
        if not changed:
            return
        peers = self._coordinator.data.peers
        if peers is None or peers.superseded:
            # Which of the two homes gives way is the user's to say.
            return
        try:
            await self._coordinator.engine.client.network_changed()
        except (EngineError, EngineUnavailable) as err:
            _LOGGER.debug("The engine was not told of the network's change: %s", err)

    async def _work(self) -> None:
        """Bring what is said and told up to date, whenever there is news."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._browse()
                await self._tell()
                self._offer()
                # Last, because it takes a second or two.
                await self._advertise()
            except (ZeroconfError, OSError) as err:
                level = logging.DEBUG if self._failures else logging.WARNING
                _LOGGER.log(
                    level, "This home cannot be shown in the local network: %s", err
                )
                self._advertise_later()
            except Exception:
                # A mistake in here: what comes next should be said and told all the same.
                _LOGGER.exception("The local network could not be looked after")
                self._advertise_later()

    async def _advertise(self) -> None:
        wanted = self._wanted()
        if wanted is None:
            await self._unregister()
            self._forget_failures()
            return
        if wanted == self._advertised:
            return
        is_same = self._advertised is not None and wanted.id == self._advertised.id
        if not is_same:
            await self._unregister()
        # Not again at each piece of news if this fails, but when something is different.
        self._advertised = wanted
        assert self._zeroconf is not None
        service = service_of(wanted, self._service.name if self._service else None)
        if is_same and self._service is not None:
            self._service = service
            await (await self._zeroconf.async_update_service(service))
        else:
            sent = await self._zeroconf.async_register_service(
                service, allow_name_change=True
            )
            self._service = service
            await sent
        self._forget_failures()

    def _forget_failures(self) -> None:
        self._wait_no_more()
        self._failures = 0

    def _advertise_later(self) -> None:
        """Advertise this home once more, later and later as long as that fails."""

        @callback
        def again(_now: datetime) -> None:
            self._next_attempt = None
            self._advertised = None
            self._news.set()

        self._wait_no_more()
        delay = min(FIRST_RETRY * 2 ** min(self._failures, 10), LAST_RETRY)
        self._failures += 1
        self._next_attempt = async_call_later(
            self._hass, delay, HassJob(again, cancel_on_shutdown=True)
        )

    @callback
    def _wait_no_more(self) -> None:
        if self._next_attempt is not None:
            self._next_attempt()
            self._next_attempt = None

    def _wanted(self) -> _Advertised | None:
        """Return what should be said of this home, None while it cannot be reached."""
        status = self._coordinator.engine.status
        if status is None or (peers := status.peers) is None or not peers.port:
            return None
        if not self._addresses or self._zeroconf is None:
            return None
        if not self._configuration.config.lan_visible:
            return None
        name = self._configuration.config.home_name
        return _Advertised(peers.id, name, peers.port, self._addresses)

    async def _unregister(self) -> None:
        service, self._service, self._advertised = self._service, None, None
        if service is None or self._zeroconf is None:
            return
        try:
            await (await self._zeroconf.async_unregister_service(service))
        except (ZeroconfError, OSError) as err:
            _LOGGER.debug("This home was not taken back from the network: %s", err)

    # The others

    async def _browse(self) -> None:
        """Watch the others for as long as this home is visible."""
        if self._configuration.config.lan_visible:
            if self._browser is None and self._zeroconf is not None:
                self._browser = AsyncServiceBrowser(
                    self._zeroconf.zeroconf, [SERVICE_TYPE], handlers=[self._on_service]
                )
            return
        browser, self._browser = self._browser, None
        if browser is None:
            return
        await browser.async_cancel()
        for task in self._lookups.values():
            task.cancel()
        for name in list(self._homes):
            self._lose(name)

    @callback
    def _on_config(self) -> None:
        """Advertise what changed."""
        self._news.set()

    @callback
    def _on_engine(self, event: Event | None) -> None:
        """Tell an engine that just started everything."""
        if isinstance(event, Hello):
            self._told = None
        self._news.set()

    @callback
    def _on_service(
        self,
        zeroconf: Any,
        service_type: str,
        name: str,
        state_change: ServiceStateChange,
    ) -> None:
        """Take in that a service came, changed or went."""
        if state_change is ServiceStateChange.Removed:
            self._lose(name)
            return
        try:
            info = AsyncServiceInfo(service_type, name)
        except BadTypeInNameException:
            return
        if info.load_from_cache(zeroconf):
            self._take(name, info)
        elif name not in self._lookups and len(self._lookups) < MAX_LOOKUPS:
            task = self._entry.async_create_background_task(
                self._hass, self._look_up(name, info), f"PeMuS home {name}"
            )
            self._lookups[name] = task
            task.add_done_callback(lambda _: self._lookups.pop(name, None))

    async def _look_up(self, name: str, info: AsyncServiceInfo) -> None:
        assert self._zeroconf is not None
        if await info.async_request(self._zeroconf.zeroconf, LOOKUP_TIMEOUT):
            self._take(name, info)

    def _take(self, name: str, info: AsyncServiceInfo) -> None:
        """Take note of a home, if it is one."""
        on_loopback = all(ip_address(own).is_loopback for own in self._addresses)
        home = read_home(info, on_loopback=on_loopback)
        if home is None:
            self._lose(name)
            return
        if name not in self._homes and len(self._homes) >= MAX_HOMES:
            _LOGGER.debug("More homes than can be looked after: %s is left out", name)
            return
        if (former := self._homes.get(name)) == home:
            return
        if former is not None and former.id != home.id:
            self._lose(name)
        self._homes[name] = home
        if (found := info_from_service(info)) is not None:
            self._found[name] = found
        self._news.set()

    def _lose(self, name: str) -> None:
        """Take note that a home left, and offer it no more unless another service is of the same one."""
        self._found.pop(name, None)
        if (gone := self._homes.pop(name, None)) is None:
            return
        self._news.set()
        if not any(home.id == gone.id for home in self._homes.values()):
            self._pairings.async_offer_no_more(gone.id)

    def _offer(self) -> None:
        """Offer the user whom they may pair with, or have begun to, unless a dialog does so already.

        Home Assistant does that too, but only once, and perhaps before this home knew who it is.
        """
        if (peers := self._coordinator.data.peers) is None:
            return
        pairings = self._pairings
        for name, found in self._found.items():
            home = self._homes[name].id
            if (
                home != peers.id
                and pairings.may_offer(home)
                and not pairings.has_dialog(home)
            ):
                discovery_flow.async_create_flow(
                    self._hass,
                    DOMAIN,
                    {"source": SOURCE_ZEROCONF},
                    found,
                    discovery_key=DiscoveryKey(
                        domain="zeroconf", key=(found.type, found.name), version=1
                    ),
                )

    async def _tell(self) -> None:
        """Tell the engine which homes there are, if it does not know that yet."""
        status = self._coordinator.engine.status
        if status is None or status.peers is None:
            return
        homes = LanHomes(
            homes=tuple(
                home
                for _, home in sorted(self._homes.items())
                if home.id != status.peers.id
            )
        )
        if homes == self._told:
            return
        try:
            await self._coordinator.engine.client.lan_homes(homes)
        except (EngineError, EngineUnavailable) as err:
            _LOGGER.debug("The engine was not told who is in the network: %s", err)
        else:
            self._told = homes


def service_of(home: _Advertised, name: str | None = None) -> AsyncServiceInfo:
    """Return the mDNS service of this home. Its label is the ID, of which there is only one.

    `name`: of the service as it is registered already.
    """
    return AsyncServiceInfo(
        SERVICE_TYPE,
        name or f"{home.id}.{SERVICE_TYPE}",
        server=f"pemus-{home.id.lower()}.local.",
        parsed_addresses=list(home.addresses),
        port=home.port,
        properties={
            "id": home.id,
            "name": home.name.encode()[:MAX_VALUE].decode(errors="ignore"),
            "v": PROTOCOL,
        },
    )
