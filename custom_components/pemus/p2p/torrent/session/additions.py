"""Torrents on their way into libtorrent, and the descriptors that it reads from.

libtorrent adds torrents in its own thread and answers with an alert. A caller may be cancelled before that; its torrent is then
removed when the answer arrives, and a new one with the same info-hash is added after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container
from dataclasses import dataclass
import os
from typing import Final

import libtorrent as lt

from ...core.daemon import close_in_daemon
from ..faults import SessionError

ANSWER_TIMEOUT: Final = 10.0
"""Seconds for libtorrent to add or remove a torrent, or to open its ports."""


@dataclass(slots=True, eq=False)
class _Addition:
    """A torrent that libtorrent is adding."""

    answer: asyncio.Future[lt.torrent_handle]
    descriptor: int | None
    is_abandoned: bool = False
    """Whether nobody waits for it any more."""


class Additions:
    """Adds torrents to a session of libtorrent."""

    def __init__(self, session: lt.session, torrents: Container[str]) -> None:
        """Begin without torrents. `torrents` are those in use, by info-hash."""
        self._torrents = torrents
        self._session: lt.session | None = session
        self._pending: dict[str, _Addition] = {}
        self._descriptors: dict[str, list[int]] = {}
        """By info-hash, oldest first. There are several while libtorrent lets go of a former torrent."""

    async def add(
        self, key: str, parameters: lt.add_torrent_params, descriptor: int | None
    ) -> lt.torrent_handle:
        """Add a torrent with the info-hash `key`, and return libtorrent's handle.

        The descriptor that it reads from is closed when libtorrent has removed the torrent, or did not add it.

        Raises:
            SessionError: libtorrent did not add it.

        """
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                addition = await self._begin(key, parameters, descriptor)
        except BaseException as err:
            if descriptor is not None:
                close_in_daemon(descriptor)
            if isinstance(err, TimeoutError):
                raise SessionError("libtorrent does not answer") from None
            raise
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await asyncio.shield(addition.answer)
        except TimeoutError:
            self._abandon(addition)
            raise SessionError("libtorrent does not answer") from None
        except asyncio.CancelledError:
            self._abandon(addition)
            raise
        finally:
            if addition.answer.done():
                self._pending.pop(key, None)

    async def _begin(
        self, key: str, parameters: lt.add_torrent_params, descriptor: int | None
    ) -> _Addition:
        """Ask libtorrent to add a torrent, once it has added abandoned ones of the same info-hash."""
        while (former := self._pending.get(key)) and former.is_abandoned:
            await asyncio.wait([former.answer])
        if self._session is None:
            raise SessionError("the session has ended")
        if former is not None or key in self._torrents:
            raise SessionError("there is such a torrent already")
        self._session.async_add_torrent(parameters)
        answer = asyncio.get_running_loop().create_future()
        addition = self._pending[key] = _Addition(answer, descriptor)
        if descriptor is not None:
            self._descriptors.setdefault(key, []).append(descriptor)
        return addition

    def _abandon(self, addition: _Addition) -> None:
        """Remove a torrent that nobody waits for, as soon as it is there."""
        answer = addition.answer
        if not answer.done():
            addition.is_abandoned = True
        elif not answer.cancelled() and not answer.exception() and self._session:
            self._session.remove_torrent(answer.result())

    def answered(self, alert: lt.add_torrent_alert) -> None:
        """Note that libtorrent added a torrent, or why it did not."""
        info = alert.params.ti
        hashes = alert.params.info_hashes if info is None else info.info_hashes()
        key = str(hashes.v1)
        error = alert.error.message() if alert.error.value() else ""
        addition = self._pending.get(key)
        if addition is None or addition.answer.done():
            return
        if error and addition.descriptor is not None:
            self._close(key, addition.descriptor)
        if addition.is_abandoned:
            del self._pending[key]
            addition.answer.cancel()
            if not error and self._session is not None:
                self._session.remove_torrent(alert.handle)
        elif error:
            addition.answer.set_exception(SessionError(error))
        else:
            addition.answer.set_result(alert.handle)

    def removed(self, key: str) -> None:
        """Note that libtorrent has let go of a torrent."""
        if found := self._descriptors.get(key):
            self._close(key, found[0])

    def _close(self, key: str, descriptor: int) -> None:
        found = self._descriptors[key]
        found.remove(descriptor)
        if not found:
            del self._descriptors[key]
        close_in_daemon(descriptor)

    def close(self) -> list[int]:
        """End, and let go of libtorrent's session. Return the descriptors to close once it has ended."""
        self._session = None
        for addition in self._pending.values():
            addition.answer.cancel()
        self._pending.clear()
        return [each for found in self._descriptors.values() for each in found]


def parameters_of(
    torrent: bytes, path: str | os.PathLike[str]
) -> lt.add_torrent_params:
    """Return what libtorrent needs to add a torrent of one file at `path`. Raises SessionError."""
    folder, name = os.path.split(path)
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        raise SessionError("libtorrent cannot handle the file's name") from None
    parameters = lt.add_torrent_params()
    parameters.ti = lt.torrent_info(torrent)
    parameters.save_path = folder
    parameters.renamed_files = {0: name}
    parameters.storage_mode = lt.storage_mode_t.storage_mode_sparse
    return parameters
