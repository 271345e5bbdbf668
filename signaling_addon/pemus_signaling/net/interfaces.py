"""The addresses of this machine and their networks (Linux, rtnetlink(7))."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
import socket
import struct
from typing import Final

_GET_ADDRESSES: Final = 22
_ADDRESS: Final = 20
_ERROR: Final = 2
_DONE: Final = 3
_REQUEST_ALL: Final = 0x301
_HEADER: Final = struct.Struct("=LHHLL")
_MESSAGE: Final = struct.Struct("=BBBBL")
_ATTRIBUTE: Final = struct.Struct("=HH")
_NUMBER: Final = struct.Struct("=l")
_NEAR: Final = 1
_LOCAL: Final = 2
_FLAGS: Final = 8
_PASSING: Final = 0x01 | 0x08 | 0x20 | 0x40
"""Flags of addresses that are temporary (RFC 8981), deprecated, tentative, or duplicates."""
_TIMEOUT: Final = 5.0
"""Time limit for the answer of the kernel, in seconds. It is immediate."""

type Interface = IPv4Interface | IPv6Interface


def own_addresses() -> frozenset[Interface]:
    """Return the permanent addresses of this machine with their prefixes. Raises OSError."""
    found: set[Interface] = set()
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE
    ) as kernel:
        kernel.settimeout(_TIMEOUT)
        request = _MESSAGE.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        kernel.send(
            _HEADER.pack(
                _HEADER.size + len(request), _GET_ADDRESSES, _REQUEST_ALL, 1, 0
            )
            + request
        )
        while True:
            data = kernel.recv(65536)
            for kind, body in _parts(data, _HEADER):
                if kind == _DONE:
                    return frozenset(found)
                if kind == _ERROR:
                    raise OSError(
                        -_NUMBER.unpack_from(body)[0], "the addresses cannot be read"
                    )
                if kind == _ADDRESS and (address := _read(body)) is not None:
                    found.add(address)


def _read(body: bytes) -> Interface | None:
    _, prefix, flags, _, _ = _MESSAGE.unpack_from(body)
    attributes = dict(_parts(body[_MESSAGE.size :], _ATTRIBUTE))
    if _FLAGS in attributes:
        flags = _NUMBER.unpack(attributes[_FLAGS])[0]
    # On a point-to-point link, the other attribute is the far end.
    address = attributes.get(_LOCAL, attributes.get(_NEAR))
    if address is None or (len(address) == 16 and flags & _PASSING):
        return None
    return ip_interface(f"{ip_address(address)}/{prefix}")


def _parts(data: bytes, header: struct.Struct) -> Iterator[tuple[int, bytes]]:
    """Return the kinds and bodies of messages or attributes, which are aligned to four bytes."""
    at = 0
    while at + header.size <= len(data):
        length, kind = header.unpack_from(data, at)[:2]
        if length < header.size:
            return
        yield kind, data[at + header.size : at + length]
        at += (length + 3) & ~3
