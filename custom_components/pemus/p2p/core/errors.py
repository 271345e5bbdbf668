"""The engine's errors: few, named, and each with the key that its API answers with."""

from __future__ import annotations

from typing import ClassVar

from ..models import ErrorKey


class EngineError(Exception):
    """A request that cannot be fulfilled. The message is fit to be shown to a user."""

    key: ClassVar[ErrorKey] = ErrorKey.INTERNAL


class BadRequest(EngineError):
    """The request makes no sense: a malformed node id, a limit out of bounds."""

    key = ErrorKey.BAD_REQUEST


class NotFound(EngineError):
    """There is no such share, node or item."""

    key = ErrorKey.NOT_FOUND


class Unavailable(EngineError):
    """The item is known, but its share or its file is not there at present."""

    key = ErrorKey.UNAVAILABLE


class NoPicture(EngineError):
    """There is no picture in the file, and none can be made of it."""

    key = ErrorKey.NO_PICTURE


class Busy(EngineError):
    """Too much is asked for at once; asking again later may work."""

    key = ErrorKey.BUSY


class Gone(EngineError):
    """The owner took the item back, or has another version of it now."""

    key = ErrorKey.GONE


class Replaced(EngineError):
    """The file on disk that was asked about has made room for another one."""

    key = ErrorKey.REPLACED


class PasswordNeeded(EngineError):
    """The room has a password, and the guest did not give it. The message is `needed` or `wrong`."""

    key = ErrorKey.PASSWORD


class RateLimited(EngineError):
    """It was tried too often. The message is the number of seconds to wait."""

    key = ErrorKey.RATE_LIMITED


class DiskFull(EngineError):
    """There is no room on the disk for what was to be fetched."""

    key = ErrorKey.DISK_FULL


def error_of(key: str, message: str) -> EngineError:
    """Return the error that another engine answered with. One that this release does not know counts as unavailable."""
    for kind in (BadRequest, NotFound, NoPicture, Busy, Gone, Replaced, DiskFull):
        if kind.key == key:
            return kind(message)
    return Unavailable(message)
