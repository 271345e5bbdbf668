"""The settings of the session, in PeMuS' terms and in libtorrent's."""

from __future__ import annotations

from dataclasses import dataclass
import socket
from typing import Final

import libtorrent as lt

ADDRESSES: Final = ("0.0.0.0", "[::]")  # noqa: S104 - other homes connect
"""All addresses of this machine."""
PEER_TIMEOUT: Final = 65
"""Seconds of silence after which a connection is closed. With libtorrent's 120, a peer that moved and comes back is refused for
as long."""
TICK_INTERVAL: Final = 100
"""Milliseconds between two rounds of libtorrent's work. Its default of 500 delays every new connection."""

_FORCED: Final = 0
_RC4: Final = 2
_SOCKET_BUFFER: Final = 4 * 1024 * 1024
_MIN_SEND_BUFFER: Final = 128 * 1024
_ALERTS: Final = (
    lt.alert_category.error
    | lt.alert_category.status
    | lt.alert_category.piece_progress
    | lt.alert_category.connect
    | lt.alert_category.peer
    | lt.alert_category.storage
    | lt.alert_category.port_mapping
)
_ALERT_QUEUE: Final = 20_000
_ALL_NETWORKS: Final = (
    ("0.0.0.0", "255.255.255.255"),  # noqa: S104 - a range, nothing is bound
    ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
)
_LOCAL_NETWORKS: Final = (
    ("10.0.0.0", "10.255.255.255"),
    ("127.0.0.0", "127.255.255.255"),
    ("169.254.0.0", "169.254.255.255"),
    ("172.16.0.0", "172.31.255.255"),
    ("192.168.0.0", "192.168.255.255"),
    ("::1", "::1"),
    ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """The settings of a session. All can be changed while it runs."""

    addresses: tuple[str, ...] = ADDRESSES
    """Addresses to listen on, IPv6 ones in brackets. Without any, nobody can connect from outside."""
    port: int = 0
    """TCP port; with 0 the system chooses one for all addresses."""
    upload_limit: int = 0
    """Bytes per second of all torrents together; 0 for no limit."""
    download_limit: int = 0
    connections: int = 200
    lan_exempt: bool = True
    """Whether the limits exempt peers in the local network: those with private addresses, and this machine."""
    own_addresses: tuple[str, ...] = ()
    """IP addresses of this machine."""
    port_mapping: bool = False
    """Whether to ask the router for a port (UPnP, NAT-PMP)."""
    stun_server: str = ""
    """`host:port` of the server that tells WebRTC its public address. Peers in one network need none."""

    @property
    def is_limited(self) -> bool:
        """Whether a rate is limited."""
        return bool(self.upload_limit or self.download_limit)

    def pack(self) -> lt.settings_pack:
        """Return all settings of libtorrent except where to listen."""
        # libtorrent's type lacks some settings: "per_pid" is missing.
        return {  # type: ignore[typeddict-unknown-key]
            "user_agent": "PeMuS",
            "peer_fingerprint": "-PS0100-",
            "alert_mask": int(_ALERTS),
            "alert_queue_size": _ALERT_QUEUE,
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": self.port_mapping,
            "enable_natpmp": self.port_mapping,
            "in_enc_policy": _FORCED,
            "out_enc_policy": _FORCED,
            "allowed_enc_level": _RC4,
            "prefer_rc4": True,
            "upload_rate_limit": self.upload_limit,
            "download_rate_limit": self.download_limit,
            "connections_limit": self.connections,
            "unchoke_slots_limit": -1,
            "allow_multiple_connections_per_ip": True,
            # Accept a peer that reconnects before its broken connection is known to be dead.
            "allow_multiple_connections_per_pid": True,
            # A peer whose address changed does not say so. An idle peer sends a keep-alive after half of this time.
            "peer_timeout": PEER_TIMEOUT,
            # Otherwise a reader that has all it wants for now is disconnected, and its next seek hangs.
            "close_redundant_connections": False,
            "send_socket_buffer_size": _SOCKET_BUFFER,
            # A new or seeking peer has no rate yet that the buffer could follow: with 10 KiB it gets one block per tick. Data
            # in this buffer cannot be taken back, so it holds at most a tenth of a second of a slow line.
            "send_buffer_low_watermark": _MIN_SEND_BUFFER,
            "recv_socket_buffer_size": _SOCKET_BUFFER,
            "mixed_mode_algorithm": 0,
            # Otherwise libtorrent tries uTP first with each peer, which takes half as much CPU again, and seconds where only
            # the TCP port can be reached.
            "enable_outgoing_utp": False,
            "tick_interval": TICK_INTERVAL,
            "strict_end_game_mode": False,
            # Requests that are queued ahead delay what a reader needs next.
            "request_queue_time": 1,
            # Otherwise pieces of libtorrent's choice are sent before those that were requested.
            "allowed_fast_set_size": 0,
            "min_reconnect_time": 2,
            "stop_tracker_timeout": 1,
            # The engine's own tracker listens on loopback.
            "ssrf_mitigation": False,
            "webtorrent_stun_server": self.stun_server,
            "no_atime_storage": True,
        }

    def interfaces(self) -> lt.settings_pack:
        """Return libtorrent's setting of where to listen.

        If libtorrent chose the port, each address would have another one. If the port is taken a moment later, libtorrent
        tries the ones after it.
        """
        port = self.port
        if self.addresses and not port:
            with socket.create_server(("", 0)) as probe:
                port = probe.getsockname()[1]
        listen = ",".join(f"{address}:{port}" for address in self.addresses)
        return {"listen_interfaces": listen}

    def peer_classes(self) -> lt.ip_filter:
        """Return which addresses are exempt from the limits."""
        classes = lt.ip_filter()
        for start, stop in _ALL_NETWORKS:
            classes.add_rule(start, stop, 1 << int(lt.session.global_peer_class_id))
        if self.lan_exempt:
            own = ((address, address) for address in self.own_addresses)
            for start, stop in (*_LOCAL_NETWORKS, *own):
                classes.add_rule(start, stop, 1 << int(lt.session.local_peer_class_id))
        return classes
