"""The home: its identity, its configuration, and the components that follow from both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
import logging
import os
from pathlib import Path
import time
from typing import TYPE_CHECKING

from .components import Components
from .core import tasks
from .core.errors import EngineError, Unavailable
from .models import API_VERSION, EngineConfig, Problem, ProblemKey, Status
from .models.version import VERSION

if TYPE_CHECKING:
    # It loads cryptography, which may be missing.
    from .net.identity import Identity

IDENTITY = "identity"
"""File with this home's private key."""

_LOGGER = logging.getLogger(__name__)


class Home:
    """Starts, configures and stops the components as one home."""

    def __init__(
        self, components: Components, *, data: Path, awaits_config: bool = False
    ) -> None:
        """Prepare a home that keeps its key in `data`.

        With `awaits_config`, somebody who knows whether this home has friends is going to configure it: it gets no
        identity before that.
        """
        self.components = components
        self._key = data / IDENTITY
        self._data = data
        self._started = time.time()
        self._serial = 0
        # Opens nothing in the local network before the user's wish is known.
        self._config = EngineConfig(home_name="", lan_visible=False)
        self._awaits_config = awaits_config
        self._is_configured = False
        """Whether a configuration was applied, also to the library."""
        self._identity: Identity | None = None
        self._identity_fault: str | None = None
        """Why this home cannot be who it was, in plain English."""
        self._changing = asyncio.Lock()
        """Held while it changes who this home is, or who its friends are."""
        self._changes: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self, config: EngineConfig | None) -> AsyncGenerator[None]:
        """Run the components, with a configuration if there is one already. They stop in reverse order."""
        components = self.components
        async with AsyncExitStack() as parts:
            parts.push_async_callback(components.library.stop)
            await components.library.start()
            parts.push_async_callback(components.stop_transfers)
            parts.push_async_callback(components.stop_friends)
            parts.push_async_callback(self._stop_changes)
            if config is not None:
                await self._configure(config)
            else:
                await self._start_with_identity()
            yield

    @property
    def id(self) -> str:
        """PeMuS ID. Raises Unavailable."""
        if self._identity is None:
            raise Unavailable("this home has no identity at present")
        return self._identity.id

    def status(self) -> Status:
        """Return the present state."""
        components = self.components
        library, friends = components.library, components.active_friends
        rooms = components.active_rooms
        self._serial += 1
        return Status(
            api_version=API_VERSION,
            version=VERSION,
            pid=os.getpid(),
            started=self._started,
            rss=resident_memory(),
            scan_state=library.scan_state,
            progress=library.progress,
            revision=library.revision,
            counts=library.counts,
            shares=library.shares,
            problems=self._problems,
            capabilities=components.capabilities,
            swarm=components.swarm_status(),
            peers=friends.status() if friends else None,
            rooms=rooms.statuses() if rooms else (),
            serial=self._serial,
        )

    @property
    def _problems(self) -> tuple[Problem, ...]:
        problems = self.components.library.problems
        if self.components.active_downloads is not None:
            problems += self.components.active_downloads.problems
        if self._identity_fault is not None:
            lost = {"path": str(self._key), "error": self._identity_fault}
            problems += (Problem(key=ProblemKey.IDENTITY_LOST, placeholders=lost),)
        return problems

    # Configuration.

    async def configure(self, config: EngineConfig) -> None:
        """Apply the differences between `config` and what runs, after earlier changes are done.

        Raises Unavailable after doing all that was possible.
        """
        await self._finish(self._configure(config), "configure")

    async def _configure(self, config: EngineConfig) -> None:
        # Each step runs whatever becomes of the others. When the engine stops, this is cancelled and no further step runs.
        faults: list[Exception] = []
        for apply in (
            self._apply_to_homes,
            self.components.library.apply,
            self._review,
        ):
            try:
                await apply(config)
            except Exception as err:  # noqa: BLE001 - raised below
                faults.append(err)
        if faults:
            raise faults[-1]

    async def _apply_to_homes(self, config: EngineConfig) -> None:
        """Apply what concerns other homes. This comes first, as somebody may have to lose access."""
        components = self.components
        async with self._changing:
            # All of it counts at once for those who ask; what it takes away is ended below.
            self._config = components.config = config
            self._awaits_config = False
            if self._identity is None:
                await self._load_identity()
            if self._identity is not None:
                await components.start_transfers(self._identity, config)
            if components.active_friends is not None:
                await components.active_friends.apply(config)
                if components.active_rooms is not None:
                    await components.active_rooms.apply(config)
            elif self._identity is not None:
                await components.start_friends(self._identity, config)
            if components.active_friends is not None:
                await components.active_friends.forget_former()
            if components.active_rooms is not None:
                components.active_rooms.forget_former()

    async def _review(self, _config: EngineConfig) -> None:
        """Serve for tickets what the configuration allows, now that all of it was applied."""
        self._is_configured = True
        if (swarm := self.components.active_swarm) is not None:
            await swarm.tickets.review()
            # An item whose share was not known may be found now.
            swarm.items_changed(None)

    async def _finish(self, change: Coroutine[None, None, None], name: str) -> None:
        """Run a change to its end, even if the caller does not wait that long."""
        task = asyncio.create_task(change, name=name)
        self._changes.add(task)
        task.add_done_callback(self._finished)
        await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._changes.discard(task)
        if task.cancelled() or (err := task.exception()) is None:
            return
        if isinstance(err, EngineError):
            # The caller is told and tries again.
            _LOGGER.debug("%s failed: %s", task.get_name(), err)
        else:
            _LOGGER.error("%s failed", task.get_name(), exc_info=err)

    async def _stop_changes(self) -> None:
        await tasks.end(*self._changes)

    # Identity.

    async def restore_identity(self) -> str:
        """Load this home's key again, which may have been brought back; return the PeMuS ID. Raises Unavailable."""
        await self._finish(self._restore_identity(), "restore identity")
        if self._identity is None and self._identity_fault is not None:
            raise Unavailable(self._identity_fault)
        return self.id

    async def _restore_identity(self) -> None:
        async with self._changing:
            if self._identity is None:
                await self._start_with_identity()

    async def new_identity(self) -> str:
        """Become another home, which no friend knows; return its PeMuS ID. Raises Unavailable."""
        await self._finish(self._new_identity(), "new identity")
        return self.id

    async def _new_identity(self) -> None:
        from .net import identity

        async with self._changing:
            if self.components.active_friends is not None:
                await self.components.active_friends.pairings.forget_all()
            try:
                await self.components.stop_friends()
                await self.components.stop_transfers()
                await asyncio.to_thread(identity.renew, self._key)
            except identity.IdentityError as err:
                raise Unavailable(str(err)) from None
            finally:
                await self._start_with_identity()
        _LOGGER.warning("This home has a new identity")

    async def _start_with_identity(self) -> None:
        """Load the identity, and start the components that need one."""
        await self._load_identity()
        components = self.components
        if self._identity is not None:
            await components.start_transfers(self._identity, self._config)
            await components.start_friends(self._identity, self._config)
        if self._is_configured:
            # Nobody sends the configuration again to components that have just started.
            if components.active_friends is not None:
                await components.active_friends.forget_former()
            if components.active_rooms is not None:
                components.active_rooms.forget_former()
            await self._review(self._config)
        components.news.status_changed()

    async def _load_identity(self) -> None:
        """Find out who this home is. Without an identity, its library works on."""
        try:
            from .friends import state
            from .net import identity
        except ImportError as err:
            _LOGGER.warning("There is no identity: %s", err)
            return
        # The state of friends is kept from the first start on.
        had_one = bool(self._config.friends) or await asyncio.to_thread(
            os.path.lexists, self._data / state.FILE
        )
        if (
            self._awaits_config
            and not had_one
            and not await asyncio.to_thread(os.path.lexists, self._key)
        ):
            # Whether it had one is not known yet.
            return
        before, self._identity, self._identity_fault = self._identity_fault, None, None
        try:
            self._identity = await asyncio.to_thread(
                identity.load, self._key, first=not had_one
            )
        except identity.IdentityLost as err:
            self._identity_fault = str(err)
            if before != self._identity_fault:
                _LOGGER.error("This home has lost its identity, %s: %s", self._key, err)
        except identity.IdentityError as err:
            _LOGGER.error("There is no identity: %s", err)


def resident_memory() -> int:
    """Return the bytes of memory that this process has in use; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
