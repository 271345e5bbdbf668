"""A small internet on one machine, of network namespaces: homes behind routers, a signalling server, and coturn.

    host ── router ──┐
    host ── router ── internet ── signalling server, with coturn
    host ── router ──┘

Nothing leaves the machine, so the addresses may be anybody's: they have to count as public, as TURN relays to no others.
It needs root, `ip` and `nft`. The network lab of the tests and the benchmarks are built with it. Leaving a `Lab` ends all
processes in it and removes everything; what a run left that was killed is removed by the next one.

`python -m tests.lab.netlab` tells whether this machine can do it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
import itertools
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time
from typing import Final, Self

ROOT: Final = Path(__file__).parents[2]
SIGNALING_PYTHON: Final = ROOT / ".venvs" / "signaling" / "bin" / "python"
PROGRAMS: Final = {"ip": "iproute2", "nft": "nftables", "turnserver": "coturn"}
"""What it takes, and Debian's packages of these."""

COMMAND_TIMEOUT: Final = 20
START_TIMEOUT: Final = 30.0
"""Seconds for the signalling server and coturn to answer."""
STOP_TIMEOUT: Final = 10
END_TIMEOUT: Final = 5.0
"""Seconds for what still runs in a namespace to end once it was killed."""
LOOK: Final = 0.05

_PREFIX: Final = "pemus"
_LAN: Final = "lan"
_WAN: Final = "wan"
_SIGNALING_PORT: Final = 9000
_SYSTEM_PATHS: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_numbers = itertools.count(1)


class LabError(Exception):
    """The lab cannot be built, or does not do what it should. The message says why."""


class Nat(StrEnum):
    """What a router does to connections from its inside (RFC 4787). From outside it never lets anybody begin one."""

    FULL_CONE = "full cone"
    """An inner UDP port keeps one port outside, which everybody may send to once it sent anything."""
    PORT_RESTRICTED = "port-restricted"
    """It keeps one port outside, which is open to those that it has sent to."""
    SYMMETRIC = "symmetric"
    """It has another port outside for everyone that it sends to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An address in a network, and the way out of it."""

    address: str
    length: int
    """Bits of the network's prefix."""
    gateway: str


class Namespace:
    """A network stack of its own."""

    def __init__(self, name: str) -> None:
        """Make one."""
        self.name = name
        _run("ip", "netns", "add", name)
        self.ip("link", "set", "lo", "up")

    @property
    def prefix(self) -> tuple[str, ...]:
        """What stands before a command that is to run in it."""
        return (_program("ip"), "netns", "exec", self.name)

    def run(self, *command: str, feed: str = "") -> str:
        """Run a command in it and return what it says. Raises LabError."""
        return _run(*self.prefix, *command, feed=feed)

    def ip(self, *arguments: str) -> str:
        """Run `ip` for it. Raises LabError."""
        return _run("ip", "-n", self.name, *arguments)

    def nft(self, rules: str) -> None:
        """Add rules to its firewall. Raises LabError."""
        self.run(_program("nft"), "-f", "-", feed=rules)

    def set(self, **switches: int) -> None:
        """Set switches of its kernel: `net__ipv4__ip_forward=1`."""
        for name, value in switches.items():
            file = f"/proc/sys/{name.replace('__', '/')}"
            self.run("sh", "-c", f"echo {value} >{file}")

    def settle(self, interface: str, place: Place) -> None:
        """Give an interface an address in the place of all others, and the way out."""
        self.ip("addr", "flush", "dev", interface, "scope", "global")
        self.ip(
            *("addr", "add", f"{place.address}/{place.length}", "dev", interface),
            *(("nodad",) if ":" in place.address else ()),
        )
        self.ip("link", "set", interface, "up")
        self.ip("route", "replace", "default", "via", place.gateway, "dev", interface)

    @property
    def received(self) -> int:
        """Bytes that came in over all its wires so far."""
        said = self.ip("-j", "-s", "link")
        return sum(
            link["stats64"]["rx"]["bytes"]
            for link in json.loads(said)
            if "LOOPBACK" not in link["flags"]
        )

    def remove(self) -> None:
        """End what runs in it, and remove it. May be called more than once."""
        _remove(self.name)


class Internet:
    """What routers and servers are attached to, each by a line of its own with its own public network."""

    def __init__(self, lab: Lab) -> None:
        """Build it."""
        self._lines = itertools.count()
        self.namespace = lab.namespace("internet")
        self.namespace.set(net__ipv4__ip_forward=1, net__ipv6__conf__all__forwarding=1)
        for family in ("-4", "-6"):
            # Packets to nowhere vanish, those to private addresses above all: nobody is told.
            self.namespace.ip(family, "route", "add", "blackhole", "default")

    def attach(self, namespace: Namespace, interface: str) -> Line:
        """Connect a namespace."""
        number = next(self._lines)
        _wire(namespace, interface, self.namespace, f"line{number}")
        return Line(self.namespace, f"line{number}", namespace, interface, number)


class Line:
    """A line from the internet to somebody, who may be given another address at any time."""

    def __init__(
        self,
        internet: Namespace,
        near: str,
        namespace: Namespace,
        interface: str,
        number: int,
    ) -> None:
        """Set the line up, without addresses at its far end."""
        self._namespace = namespace
        self._interface = interface
        self._internet = internet
        self._near = near
        self._networks = (
            IPv4Network((f"45.{number}.0.0", 24)),
            IPv6Network((f"2a0e:{number:x}::", 64)),
        )
        self._hosts = itertools.count(2)
        for network in self._networks:
            internet.ip(
                *("addr", "add", f"{network[1]}/{network.prefixlen}", "dev", near),
                *(("nodad",) if network.version == 6 else ()),
            )
        internet.ip("link", "set", near, "up")

    def place(self, version: int) -> Place:
        """Return an address that was not used before."""
        network = self._networks[0 if version == 4 else 1]
        address = network[next(self._hosts)]
        return Place(
            address=str(address), length=network.prefixlen, gateway=str(network[1])
        )

    def delegate(self, network: IPv6Network, via: str) -> None:
        """Send packets to a network down this line."""
        self._internet.ip("route", "add", str(network), "via", via, "dev", self._near)


class Router:
    """A router with a network behind it. It lets nobody in, and knows nothing of homes."""

    def __init__(
        self,
        lab: Lab,
        upstream: Internet | Router,
        nat: Nat | None = Nat.PORT_RESTRICTED,
        network: str = "192.168.1.0/24",
    ) -> None:
        """Build a router for a network, with a NAT if the network has IPv4, and attach it to the internet or to another."""
        self.network = ip_network(network)
        if (nat is None) is not (self.network.version == 6):
            raise ValueError("IPv4 goes with a NAT, IPv6 without")
        self._lab = lab
        self.namespace = lab.namespace("router")
        self._hosts = itertools.count(2)
        self.namespace.set(net__ipv4__ip_forward=1, net__ipv6__conf__all__forwarding=1)
        self.namespace.ip("link", "add", _LAN, "type", "bridge")
        self.namespace.ip(
            *("addr", "add", f"{self.network[1]}/{self.network.prefixlen}"),
            *("dev", _LAN),
            *(("nodad",) if self.network.version == 6 else ()),
        )
        self.namespace.ip("link", "set", _LAN, "up")
        self._upstream = upstream.attach(self.namespace, _WAN)
        self.address = ""
        """Outside."""
        self.renumber()
        if isinstance(self._upstream, Line) and isinstance(self.network, IPv6Network):
            self._upstream.delegate(self.network, self.address)
        self.namespace.nft(_FIREWALL)
        if nat is not None:
            self.namespace.nft(_NATS[nat])

    def attach(self, namespace: Namespace, interface: str) -> Router:
        """Connect a namespace to the network behind it."""
        number = next(_numbers)
        _wire(namespace, interface, self.namespace, f"port{number}")
        self.namespace.ip("link", "set", f"port{number}", "master", _LAN, "up")
        return self

    def place(self, version: int) -> Place:
        """Return an address of the network behind it that was not used before."""
        if version != self.network.version:
            raise ValueError("this network has no such addresses")
        return Place(
            address=str(self.network[next(self._hosts)]),
            length=self.network.prefixlen,
            gateway=str(self.network[1]),
        )

    def host(self) -> Host:
        """Put a machine into the network behind it."""
        return Host(self._lab, self)

    def renumber(self) -> None:
        """Get another address outside, as after a night. What was connected is not any more."""
        place = self._upstream.place(self.network.version)
        self.namespace.settle(_WAN, place)
        self.address = place.address

    def lose(self, percent: int) -> None:
        """Lose so many of the packets that pass, both ways."""
        self.namespace.nft(
            "table inet losses { chain passing {"
            " type filter hook forward priority -10;"
            f" numgen random mod 100 < {percent} drop; }};}}\n"
        )


class Host:
    """A machine behind a router, on which an engine can run: `EngineHome(..., prefix=host.prefix)`."""

    def __init__(self, lab: Lab, router: Router) -> None:
        """Attach a machine to a network."""
        self.namespace = lab.namespace("host")
        self._router = router.attach(self.namespace, "eth0")
        self.address = ""
        self.move()

    @property
    def prefix(self) -> tuple[str, ...]:
        """What stands before a command that is to run on it."""
        return self.namespace.prefix

    def move(self) -> None:
        """Get another address in its network."""
        place = self._router.place(self._router.network.version)
        self.namespace.settle("eth0", place)
        self.address = place.address


class SignalingServer:
    """The project's own server, with coturn, somewhere in the internet."""

    def __init__(
        self, lab: Lab, internet: Internet, folder: Path, *options: str
    ) -> None:
        """Prepare a machine for it; its log will be in `folder`. `options` are more of its command line."""
        lab.servers.append(self)
        self.namespace = lab.namespace("server")
        line = internet.attach(self.namespace, "eth0")
        four, six = line.place(4), line.place(6)
        self.namespace.settle("eth0", four)
        self.namespace.ip("addr", "add", f"{six.address}/64", "dev", "eth0", "nodad")
        self.namespace.ip("route", "add", "default", "via", six.gateway)
        self.url = f"http://{four.address}:{_SIGNALING_PORT}/"
        self.url6 = f"http://[{six.address}]:{_SIGNALING_PORT}/"
        self._log = folder / "signaling.log"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it and coturn answer. Raises LabError."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                (
                    *self.namespace.prefix,
                    # Ends with this process; coturn ends with the server.
                    *("setpriv", "--pdeathsig", "KILL", "--"),
                    *(SIGNALING_PYTHON, "-m", "pemus_signaling"),
                    *("--port", str(_SIGNALING_PORT), "--turn"),
                    # How fast a relay may be is its owner's choice, and not what is looked at.
                    *("--turn-max-bps", "0"),
                    *self._options,
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": _path()},
                cwd="/",
            )
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self._process.poll() is None:
            said = self._said()
            if "Listening on port" in said and "TURN is running on port" in said:
                return
            time.sleep(LOOK)
        raise LabError(f"the signalling server does not start\n{self._said()}")

    def kill(self) -> None:
        """End it as a power cut would, and coturn with it. May be called at any time."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT)
            self._process = None

    def _said(self) -> str:
        return self._log.read_text("utf-8", "replace")


class Lab:
    """Everything that was built, to be removed when it is left."""

    def __init__(self) -> None:
        """Build nothing yet."""
        self.servers: list[SignalingServer] = []
        self._namespaces: list[Namespace] = []

    def __enter__(self) -> Self:
        """Remove what earlier runs left. Raises LabError if this machine cannot have a lab."""
        if (why := obstacle()) is not None:
            raise LabError(why)
        sweep()
        return self

    def __exit__(self, *_: object) -> None:
        """End everything, and remove it."""
        for server in self.servers:
            server.kill()
        for namespace in reversed(self._namespaces):
            namespace.remove()

    def namespace(self, label: str) -> Namespace:
        """Make a namespace whose name nobody else uses."""
        made = Namespace(f"{_PREFIX}-{os.getpid()}-{next(_numbers)}-{label}")
        self._namespaces.append(made)
        return made


def obstacle() -> str | None:
    """Return why this machine cannot have a lab, None if it can."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    for name, package in PROGRAMS.items():
        if shutil.which(name, path=_path()) is None:
            return f"{name} is missing (on Debian: apt install {package})"
    name = f"{_PREFIX}-{os.getpid()}-0-trial"
    trial = None
    try:
        trial = Namespace(name)
        trial.nft(_FIREWALL + _NATS[Nat.FULL_CONE])
    except LabError as err:
        return f"network namespaces, or firewalls in them, are not allowed here: {err}"
    finally:
        if trial is not None:
            trial.remove()
    return None


def sweep() -> None:
    """Remove the namespaces of runs that were killed."""
    for line in _run("ip", "netns", "list").splitlines():
        name = line.partition(" ")[0]
        prefix, _, rest = name.partition("-")
        pid = rest.partition("-")[0]
        if prefix == _PREFIX and pid.isdigit() and not Path("/proc", pid).exists():
            _remove(name)


# Chains must not be called like words of nft's language.
_FIREWALL: Final = """
table inet firewall {
  chain passing {
    type filter hook forward priority filter; policy drop;
    iifname "lan" accept
    ct state established,related accept
    ct status dnat accept
  }
  chain arriving {
    type filter hook input priority filter; policy accept;
    iifname "wan" ct state new drop
  }
}
"""
_MASQUERADE: Final = """
table ip nat {{
  chain leaving {{
    type nat hook postrouting priority srcnat;
    oifname "wan" masquerade {how}
  }}
}}
"""
# Linux keeps an inner port outside, but lets in only those that it has sent to. So whoever sends is written down.
_CONE: Final = """
table ip nat {
  map inside { type inet_service : ipv4_addr; flags dynamic,timeout; timeout 5m; }
  chain leaving {
    type nat hook postrouting priority srcnat;
    oifname "wan" meta l4proto udp update @inside { udp sport : ip saddr }
    oifname "wan" masquerade
  }
  chain entering {
    type nat hook prerouting priority dstnat;
    iifname "wan" meta l4proto udp dnat to udp dport map @inside
  }
}
"""
_NATS: Final = {
    Nat.FULL_CONE: _CONE,
    Nat.PORT_RESTRICTED: _MASQUERADE.format(how=""),
    Nat.SYMMETRIC: _MASQUERADE.format(how="fully-random"),
}


def _remove(name: str) -> None:
    """End what runs in a namespace, and remove it, if there is such a one."""
    with suppress(LabError):
        deadline = time.monotonic() + END_TIMEOUT
        while pids := _run("ip", "netns", "pids", name).split():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            if time.monotonic() > deadline:
                break
            time.sleep(LOOK)
    with suppress(LabError):
        _run("ip", "netns", "del", name)


def _wire(one: Namespace, interface: str, other: Namespace, port: str) -> None:
    """Connect two namespaces with a cable."""
    _run(
        *("ip", "link", "add", interface, "netns", one.name, "type", "veth"),
        *("peer", "name", port, "netns", other.name),
    )
    other.ip("link", "set", port, "up")


def _path() -> str:
    return os.pathsep.join((os.environ.get("PATH", os.defpath), *_SYSTEM_PATHS))


def _program(name: str) -> str:
    if (found := shutil.which(name, path=_path())) is None:
        raise LabError(f"{name} is missing")
    return found


def _run(*command: str, feed: str = "") -> str:
    try:
        done = subprocess.run(
            [_program(command[0]), *command[1:]],
            input=feed,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT,
            check=True,
        )
    except subprocess.CalledProcessError as err:
        raise LabError(f"{_shown(command)}: {err.stderr.strip()}") from None
    except (OSError, subprocess.TimeoutExpired) as err:
        raise LabError(f"{_shown(command)}: {err}") from None
    return done.stdout


def _shown(command: Sequence[str]) -> str:
    return " ".join(command)


def main() -> int:
    """Tell whether this machine can have a lab."""
    if (why := obstacle()) is None:
        return 0
    print(why)
    return 1


if __name__ == "__main__":
    sys.exit(main())
