"""PeMuS homes in the local network: advertises this home by mDNS, and reports the others to the engine.

Home Assistant's discovery shows the homes to the user. The engine needs their current addresses. Anyone in the network
can advertise anything, so invalid services are ignored, and valid ones are not trusted until the engine has
authenticated them.
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

from .dialogs import STEP_OFFER
from .pairings import Pairings
from .terms import clean_name

SERVICE_TYPE: Final = "_pemus._tcp.local."
PROTOCOL: Final = "1"

MAX_HOMES: Final = 200
MAX_ADDRESSES: Final = 8
"""Addresses of one home."""
MAX_LOOKUPS: Final = 20
"""Concurrent address look-ups."""
LOOKUP_TIMEOUT: Final = 3000
"""In milliseconds, as zeroconf expects."""
MAX_VALUE: Final = 230
"""Maximum length of a value in the TXT record, in bytes. RFC 6763 (section 6.1) limits key and value to 255."""
CHECK_INTERVAL: Final = timedelta(seconds=60)
"""How often to check this home's addresses, of whose changes there is no event, and the homes to offer."""
RETRY_DELAY_MIN: Final = timedelta(seconds=10)
"""Delay before a failed advertisement is retried. It doubles with each failure."""
RETRY_DELAY_MAX: Final = timedelta(minutes=10)

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Advertised:
    """The content of this home's advertisement."""

    id: str
    name: str
    port: int
    addresses: tuple[str, ...]


def read_service(properties: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the PeMuS ID and name in the properties of an mDNS service, or None if they are invalid."""
    value = properties.get("id")
    home = read_id(value) if isinstance(value, str) else None
    if home is None or home != value:
        return None
    name = properties.get("name")
    return home, clean_name(name) if isinstance(name, str) else ""


def read_home(info: AsyncServiceInfo, *, on_loopback: bool = False) -> LanHome | None:
    """Return the home that an mDNS service advertises, or None if the service is invalid.

    `on_loopback`: accept loopback addresses, because this home has no other address either.
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
    """Return the addresses at which a home can be reached, without duplicates."""
    found: dict[str, None] = {}
    for text in addresses:
        try:
            address = ip_address(text)
        except ValueError:
            continue
        if address.is_multicast or address.is_unspecified or address.is_reserved:
            continue
        # A link-local address is useless without the name of the local interface.
        if isinstance(address, IPv6Address) and address.is_link_local:
            continue
        if not address.is_loopback or on_loopback:
            found[str(address)] = None
    return tuple(found)


async def own_addresses(hass: HomeAssistant) -> tuple[str, ...]:
    """Return the current addresses of this home, the default source address first.

    They belong to the network adapters that are enabled in Home Assistant. Home Assistant's own list is as old as its
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
    # Some clients use only the first address.
    source = util.async_get_source_ip(MDNS_TARGET_IP)
    found.sort(key=lambda address: address != source)
    if not usable(found) and source is not None:
        found.append(source)
    return usable(found) or usable(found, on_loopback=True)


class LanNeighbours:
    """Advertises this home and watches the others while the config entry is loaded."""

    def __init__(
        self,
        hass: HomeAssistant,
        coordinator: PemusCoordinator,
        configuration: Configuration,
        pairings: Pairings,
    ) -> None:
        """Create the watcher. `async_start` starts it."""
        self._hass = hass
        self._coordinator = coordinator
        self._configuration = configuration
        self._pairings = pairings
        self._entry = coordinator.config_entry
        self._homes: dict[str, LanHome] = {}
        """By service name."""
        self._found: dict[str, ZeroconfServiceInfo] = {}
        """The discovery information of these homes, by service name."""
        self._lookups: dict[str, asyncio.Task[None]] = {}
        self._told: LanHomes | None = None
        self._addresses: tuple[str, ...] = ()
        self._advertised: _Advertised | None = None
        self._failures = 0
        """Consecutive failures to advertise this home."""
        self._next_attempt: CALLBACK_TYPE | None = None
        self._service: AsyncServiceInfo | None = None
        self._news = asyncio.Event()
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._worker: asyncio.Task[None] | None = None

    async def async_start(self) -> None:
        """Start to advertise and watch, until the entry is unloaded."""
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
                CHECK_INTERVAL,
                name="PeMuS in the local network",
                cancel_on_shutdown=True,
            )
        )
        self._news.set()
        self._worker = entry.async_create_background_task(
            self._hass, self._work(), "PeMuS in the local network"
        )

    async def async_stop(self) -> None:
        """Withdraw the advertisement, and stop watching."""
        tasks = [task for task in (self._worker, *self._lookups.values()) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._wait_no_more()
        if self._browser is not None:
            await self._browser.async_cancel()
        await self._unregister()

    async def _connect(self) -> None:
        """Get Home Assistant's zeroconf instance, if a network is available."""
        try:
            self._zeroconf = await zeroconf.async_get_async_instance(self._hass)
        except (ZeroconfError, OSError) as err:
            _LOGGER.debug("The local network is not available: %s", err)

    # This home

    async def _look(self) -> bool:
        """Read this home's addresses. Return whether they changed."""
        try:
            addresses = await own_addresses(self._hass)
        except OSError as err:
            _LOGGER.debug("Failed to read the addresses of this home: %s", err)
            return False
        before, self._addresses = self._addresses, addresses
        return addresses != before

    async def _check(self, _now: datetime) -> None:
        """Check whether this home's addresses changed. If so, the engine retries its connections."""
        changed = await self._look()
        if self._zeroconf is None:
            await self._connect()
        # Homes that could not be offered before may be possible now.
        self._news.set()
        if not changed:
            return
        peers = self._coordinator.data.peers
        if peers is None or peers.superseded:
            # Another home uses the same identity. The user decides which of the two continues.
            return
        try:
            await self._coordinator.engine.client.network_changed()
        except (EngineError, EngineUnavailable) as err:
            _LOGGER.debug("Failed to report the network change to the engine: %s", err)

    async def _work(self) -> None:
        """Update the browser, the engine, the offers and the advertisement after each change."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._browse()
                await self._tell()
                self._offer()
                # Last, because it takes one or two seconds.
                await self._advertise()
            except (ZeroconfError, OSError) as err:
                level = logging.DEBUG if self._failures else logging.WARNING
                _LOGGER.log(
                    level, "Failed to advertise this home in the local network: %s", err
                )
                self._advertise_later()
            except Exception:
                # A bug must not end the loop.
                _LOGGER.exception("Unexpected error while updating the local network")
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
        # If this fails, retry after a delay or when the content changes, not on every event.
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
        """Schedule the next attempt to advertise this home, with a growing delay."""

        @callback
        def again(_now: datetime) -> None:
            self._next_attempt = None
            self._advertised = None
            self._news.set()

        self._wait_no_more()
        delay = min(RETRY_DELAY_MIN * 2 ** min(self._failures, 10), RETRY_DELAY_MAX)
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
        """Return the advertisement of this home, or None while it cannot be reached or is not visible."""
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
            _LOGGER.debug("Failed to withdraw the advertisement of this home: %s", err)

    # The others

    async def _browse(self) -> None:
        """Watch other homes while this home is visible."""
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
        """Apply a changed configuration."""
        self._news.set()

    @callback
    def _on_engine(self, event: Event | None) -> None:
        """Report all homes to an engine that just started."""
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
        """Handle an added, changed, or removed service."""
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
        """Add or update a home. Invalid services are removed."""
        on_loopback = all(ip_address(own).is_loopback for own in self._addresses)
        home = read_home(info, on_loopback=on_loopback)
        if home is None:
            self._lose(name)
            return
        if name not in self._homes and len(self._homes) >= MAX_HOMES:
            _LOGGER.debug("Ignoring the home %s, because there are too many", name)
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
        """Remove a home. Withdraw its offer, unless another service advertises the same home."""
        self._found.pop(name, None)
        if (gone := self._homes.pop(name, None)) is None:
            return
        self._news.set()
        if not any(home.id == gone.id for home in self._homes.values()):
            self._pairings.dialogs.async_end(gone.id, {STEP_OFFER})

    def _offer(self) -> None:
        """Start a discovery flow for each home that can be offered and has none.

        Home Assistant's own discovery starts a flow only once, possibly before this home was ready.
        """
        if (peers := self._coordinator.data.peers) is None:
            return
        pairings = self._pairings
        for name, found in self._found.items():
            home = self._homes[name].id
            if (
                home != peers.id
                and pairings.may_offer(home)
                and not pairings.dialogs.exists(home)
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
        """Report the homes to the engine if they changed."""
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
            _LOGGER.debug(
                "Failed to report the homes in the local network to the engine: %s", err
            )
        else:
            self._told = homes


def service_of(home: _Advertised, name: str | None = None) -> AsyncServiceInfo:
    """Return the mDNS service of this home. Its instance name is the PeMuS ID.

    `name`: the name under which the service is already registered.
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
