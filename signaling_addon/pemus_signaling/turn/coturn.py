"""coturn, the STUN and TURN server (RFC 8489, RFC 8656), as a child of this process.

TURN sends packets to whoever its client names, from this machine. So what matters most is where it does not send them:
to no network that is not the public internet, and to none that this machine is in, whatever its addresses. Otherwise a
guest reached the television of whoever runs the server at home.

coturn ends with this process, however that ends, and comes back when it ends by itself or does not answer any more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
import contextlib
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
import logging
import os
from pathlib import Path
import pwd
import re
import secrets
import shutil
import socket
import sys
import tempfile
import time
from typing import Final

from pemus_signaling.net.interfaces import Interface, own_addresses

START_TIMEOUT: Final = 20.0
"""Seconds until coturn has to answer."""
STOP_TIMEOUT: Final = 5.0
"""Seconds that it has for ending by itself."""
CHECK_INTERVAL: Final = 10.0
"""Seconds between two looks whether it still answers, and whether this machine's addresses are still the same."""
CHECKS: Final = 3
"""Looks in a row that it may leave unanswered."""
PROBE_TIMEOUT: Final = 1.0
_PROBE_PAUSE: Final = 0.05
FIRST_PAUSE: Final = 1.0
LAST_PAUSE: Final = 60.0
"""Seconds until it is started again; twice as long each time. What ran for longer than that begins anew."""

_LESSER_USER: Final = "nobody"
"""Who coturn is if root starts it."""
_SAID: Final = 20
"""Lines of what it said while it started that are shown if it did not."""
_LONGEST_LINE: Final = 4096
_SECRET: Final = re.compile(r"[\x21\x24-\x7e]{16,256}")
_REALM: Final = re.compile(r"[A-Za-z0-9._-]{1,120}")
_COOKIE: Final = 0x2112A442.to_bytes(4)

# What is not the public internet, from IANA's registries of special-purpose addresses (RFC 6890).
_IPV4: Final = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
)
# In IPv6 only 2000::/3 is in use. Parts of it, and others, hold IPv4 addresses: they would be a way around the list above.
_IPV6: Final = (
    "::/3",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "2620:4f:8000::/48",
    "3ffe::/16",
    "3fff::/20",
    "4000::/2",
    "8000::/1",
)

# What becomes coturn. It gives up being root first: Linux forgets whom to end together when a process becomes another user.
_TETHERED: Final = """
import ctypes, os, signal, sys
parent, uid, gid = map(int, sys.argv[1:4])
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != parent:
    sys.exit(1)
os.execv(sys.argv[4], sys.argv[4:])
"""

_LOGGER = logging.getLogger(__name__)

type Network = IPv4Network | IPv6Network


class CoturnError(Exception):
    """coturn does not run, and why."""


@dataclass(frozen=True, slots=True)
class CoturnSettings:
    """What coturn is told. Raises ValueError when made of values that it could not read."""

    secret: str
    """Shared with who hands out credentials."""
    realm: str = "pemus"
    port: int = 3478
    min_port: int = 49160
    """The first port that it relays through, and `max_port` the last one."""
    max_port: int = 49959
    external_ip: str | None = None
    """The public address of a machine behind address translation."""
    user_quota: int = 12
    """Allocations of one user."""
    total_quota: int = 200
    max_bps: int = 2_500_000
    """Bytes per second of an allocation, in each direction. 0: any."""
    listen: tuple[str, ...] = ()
    """The addresses to listen on. None: all that this machine has."""
    relay: tuple[str, ...] = ()
    """The addresses to relay from. None: the one that leads to the internet, IPv4's if there is one.

    Others than that would reach what no list of networks can name: a router lets through what comes from its own side.
    """
    program: str = "turnserver"

    def __post_init__(self) -> None:
        """Check what goes into coturn's file, in which a line break would begin another setting."""
        if not _SECRET.fullmatch(self.secret):
            raise ValueError(
                "turn_secret: must be 16 to 256 printable characters without spaces and quotes"
            )
        if not _REALM.fullmatch(self.realm):
            raise ValueError("turn_realm: must be letters, digits, dots and dashes")
        for address in (
            *self.listen,
            *self.relay,
            *([self.external_ip] if self.external_ip else []),
        ):
            ip_address(address)


class Coturn:
    """Runs coturn."""

    def __init__(self, settings: CoturnSettings) -> None:
        """Prepare to run it."""
        self._settings = settings
        self._keeping: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self.starts = 0
        """How often it was started."""

    @property
    def is_ready(self) -> bool:
        """Tell whether it answers."""
        return self._ready.is_set()

    async def wait_ready(self) -> None:
        """Return as soon as it answers."""
        await self._ready.wait()

    async def start(self) -> None:
        """Begin to run it. That it cannot be run is logged, and tried again."""
        self._keeping = asyncio.create_task(self._keep(), name="coturn")

    async def close(self) -> None:
        """End it. May be called at any time."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeping

    async def _keep(self) -> None:
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            try:
                await self._run()
            except (CoturnError, OSError) as error:
                if time.monotonic() > began + LAST_PAUSE:
                    pause = FIRST_PAUSE
                _LOGGER.error(
                    "There is no TURN at present: %s. Next attempt in %d s",
                    error,
                    pause,
                )
                await asyncio.sleep(pause)
                pause = min(LAST_PAUSE, 2 * pause)

    async def _run(self) -> None:
        """Run it until this machine's addresses change. Raises CoturnError when it does not run any more."""
        program = shutil.which(self._settings.program)
        if program is None:
            raise CoturnError(
                f"{self._settings.program} is not installed (on Debian: apt install coturn)"
            )
        addresses = _addresses()
        listen, relay = _choose(self._settings, addresses)
        if await answers(listen[0], self._settings.port):
            raise CoturnError(f"another server has port {self._settings.port}")
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="pemus-turn-"))
        process = None
        try:
            file = folder / "turnserver.conf"
            lines = configuration(self._settings, listen, relay, addresses, folder)
            await asyncio.to_thread(_lay_out, folder, file, "\n".join(lines) + "\n")
            process = await self._spawn(program, file)
            await self._watch(process, listen[0], addresses, file)
        finally:
            self._ready.clear()
            if process is not None:
                await _end(process)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _spawn(self, program: str, file: Path) -> asyncio.subprocess.Process:
        self.starts += 1
        try:
            # fmt: off
            return await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", "-c", _TETHERED, str(os.getpid()), *map(str, _user()), program, "-c", str(file),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                # Nothing of this process's environment, which may hold secrets.
                env={"PATH": os.environ.get("PATH", os.defpath)},
                cwd=file.parent,
                limit=_LONGEST_LINE,
            )
            # fmt: on
        except OSError as error:
            raise CoturnError(f"it cannot be started: {error.strerror}") from error

    async def _watch(
        self,
        process: asyncio.subprocess.Process,
        address: str,
        addresses: frozenset[Interface],
        file: Path,
    ) -> None:
        said: deque[str] = deque(maxlen=_SAID)
        listening = asyncio.create_task(self._listen(process, said))
        ended = asyncio.create_task(process.wait())
        try:
            await self._become_ready(process, address, said)
            # It was read, and holds the secret: it must not stay if this process is killed.
            await asyncio.to_thread(file.unlink)
            self._ready.set()
            _LOGGER.info("TURN runs at port %d", self._settings.port)
            missed = 0
            while not (await asyncio.wait((ended,), timeout=CHECK_INTERVAL))[0]:
                if _addresses() != addresses:
                    _LOGGER.info(
                        "This machine's addresses changed: TURN begins anew with them"
                    )
                    return
                missed = (
                    0 if await answers(address, self._settings.port) else missed + 1
                )
                if missed == CHECKS:
                    raise CoturnError("it does not answer any more")
            raise CoturnError(f"it ended with status {process.returncode}")
        finally:
            for task in (listening, ended):
                task.cancel()
            await asyncio.gather(listening, ended, return_exceptions=True)

    async def _become_ready(
        self, process: asyncio.subprocess.Process, address: str, said: deque[str]
    ) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_TIMEOUT):
                while process.returncode is None:
                    if await answers(address, self._settings.port):
                        return
                    await asyncio.sleep(_PROBE_PAUSE)
        for line in said:
            _LOGGER.error("coturn: %s", line)
        raise CoturnError(
            "it did not start"
            if process.returncode is None
            else f"it ended with status {process.returncode}"
        )

    async def _listen(
        self, process: asyncio.subprocess.Process, said: deque[str]
    ) -> None:
        """Keep what it says while it starts. What it says later holds clients' addresses, and is thrown away."""
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # A line that is too long.
                continue
            if not line:
                return
            text = line.decode("utf-8", "replace").strip()
            if not self._ready.is_set() and text and self._settings.secret not in text:
                said.append(text)


def configuration(
    settings: CoturnSettings,
    listen: Sequence[str],
    relay: Sequence[str],
    addresses: Iterable[Interface],
    folder: Path,
) -> list[str]:
    """Return the lines of coturn's file. `addresses` are this machine's; in `folder` it may write."""
    lines = [
        f"listening-port={settings.port}",
        *(f"listening-ip={address}" for address in listen),
        *(f"relay-ip={address}" for address in relay),
        f"min-port={settings.min_port}",
        f"max-port={settings.max_port}",
        f"realm={settings.realm}",
        "use-auth-secret",
        f"static-auth-secret={settings.secret}",
        f"user-quota={settings.user_quota}",
        f"total-quota={settings.total_quota}",
        f"max-bps={settings.max_bps}",
        "stale-nonce=600",
        "fingerprint",
        "no-cli",
        "no-tls",
        "no-dtls",
        "no-tcp-relay",
        "no-multicast-peers",
        "no-rfc5780",
        "no-software-attribute",
        "no-dynamic-ip-list",
        "no-dynamic-realms",
        "no-auth-pings",
        "log-file=stdout",
        "simple-log",
        f"pidfile={folder / 'pid'}",
        # It wants a database though all that it needs is in this file.
        f"userdb={folder / 'users'}",
    ]
    if settings.external_ip is not None:
        version = ip_address(settings.external_ip).version
        inside = next(
            (address for address in relay if ip_address(address).version == version),
            None,
        )
        lines.append(
            f"external-ip={settings.external_ip}" + (f"/{inside}" if inside else "")
        )
    return lines + [
        f"denied-peer-ip={network[0]}-{network[-1]}"
        for network in denied_networks(addresses)
    ]


def denied_networks(addresses: Iterable[Interface]) -> list[Network]:
    """Return where nothing is relayed to: all but the public internet, and the networks of these addresses.

    coturn compares IPv6 addresses byte by byte in some versions, so a range has to be one network. And it takes a range
    that begins with the address zero for one that begins before every IPv4 address: it refuses the address itself anyway.
    """
    zero = IPv6Network("::/128")
    networks: list[Network] = []
    for network in [
        *map(ip_network, (*_IPV4, *_IPV6)),
        *(address.network for address in addresses),
    ]:
        if not network.prefixlen:
            continue
        if isinstance(network, IPv6Network) and zero[0] in network:
            networks += sorted(network.address_exclude(zero))
        else:
            networks.append(network)
    return list(dict.fromkeys(networks))


async def answers(address: str, port: int) -> bool:
    """Tell whether a STUN server answers a binding request (RFC 8489, section 3) soon."""
    loop = asyncio.get_running_loop()
    probe = _Probe()
    try:
        transport, _ = await loop.create_datagram_endpoint(
            lambda: probe, remote_addr=(address, port)
        )
    except OSError:
        return False
    try:
        transport.sendto(probe.request)
        async with asyncio.timeout(PROBE_TIMEOUT):
            return await probe.answered
    except TimeoutError:
        return False
    finally:
        transport.close()
        await probe.closed.wait()


class _Probe(asyncio.DatagramProtocol):
    """One binding request."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.closed = asyncio.Event()
        self._transaction = _COOKIE + secrets.token_bytes(12)
        self.request = b"\x00\x01\x00\x00" + self._transaction

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Take the answer."""
        if data[4:20] == self._transaction and not self.answered.done():
            self.answered.set_result(data[:2] == b"\x01\x01")

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note of the end."""
        self.closed.set()

    def error_received(self, exc: Exception) -> None:
        """Take note that nobody listens."""
        if not self.answered.done():
            self.answered.set_result(False)


def _addresses() -> frozenset[Interface]:
    """Return what matters to coturn: link-local addresses come late, with nobody relayed from or to them."""
    try:
        return frozenset(each for each in own_addresses() if not each.ip.is_link_local)
    except (OSError, AttributeError) as error:
        # Without them nobody could say what to keep guests away from.
        raise CoturnError("this machine does not tell its addresses") from error


def _choose(
    settings: CoturnSettings, addresses: frozenset[Interface]
) -> tuple[list[str], list[str]]:
    """Return the addresses to listen on and those to relay from. Raises CoturnError."""
    usable = sorted(
        (each.ip for each in addresses if not each.ip.is_link_local),
        key=lambda ip: (ip.version, int(ip)),
    )
    public = [str(ip) for ip in usable if not ip.is_loopback]
    listen = list(settings.listen) or public
    relay = list(settings.relay)
    if not relay:
        for version in (4, 6):
            if (found := _outbound(version)) is not None and found in public:
                relay = [found]
                break
    if not listen or not relay:
        raise CoturnError("this machine has no address in a network")
    return listen, relay


def _outbound(version: int) -> str | None:
    """Return the address of this machine that packets to the internet come from. None is sent."""
    family, far = (
        (socket.AF_INET, "192.88.99.1")
        if version == 4
        else (socket.AF_INET6, "2000::1")
    )
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as outside:
            outside.connect((far, 9))
            return str(outside.getsockname()[0])
    except OSError:
        return None


def _lay_out(folder: Path, file: Path, text: str) -> None:
    """Write coturn's file, and give it and its folder to who coturn will be."""
    file.touch(mode=0o600)
    file.write_text(text)
    uid, gid = _user()
    for path in (file, folder):
        os.chown(path, uid, gid)


def _user() -> tuple[int, int]:
    """Return the user and the group that coturn runs as."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    lesser = pwd.getpwnam(_LESSER_USER)
    return lesser.pw_uid, lesser.pw_gid


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
