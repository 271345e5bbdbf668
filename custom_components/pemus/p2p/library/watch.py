"""Notices changes in a share's folders as they happen, with inotify(7).

Each folder has a watch of its own: a watch of a tree would follow symbolic links out of the share, and would spend the
system's limited number of watches on hidden folders. Where watching is impossible, the periodic scan finds changes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
import contextlib
import errno
from importlib.util import find_spec
from pathlib import Path
import threading
import time
from typing import TYPE_CHECKING, Final

from ..media.types import EXTENSIONS, SUBTITLE_EXTENSIONS
from .names import is_left_out

if TYPE_CHECKING:
    # It may be missing.
    from asyncinotify import Event, Inotify

QUIET_TIME: Final = 0.2
"""Seconds without a change after which the changes so far are reported."""
MAX_DELAY: Final = 1.0
"""Seconds after which changes are reported even if more keep coming."""
STOP_INTERVAL: Final = 0.3
"""Seconds between two checks whether to stop, while nothing changes."""

IS_POSSIBLE: Final = find_spec("asyncinotify") is not None
"""Whether the inotify library is installed. Without it, the periodic scan finds changes."""

_FOLLOWED: Final = EXTENSIONS.keys() | SUBTITLE_EXTENSIONS
_LIMITS: Final = {
    errno.ENOSPC: "fs.inotify.max_user_watches",
    errno.EMFILE: "fs.inotify.max_user_instances",
}


class Watcher:
    """Watches folders in a thread of its own. It calls the callbacks in that thread."""

    def __init__(
        self,
        root: str,
        folders: Collection[str],
        *,
        ready: Callable[[], None],
        changed: Callable[[set[str]], None],
        failed: Callable[[OSError], None],
    ) -> None:
        """Prepare to watch `folders`, paths below the root of a share.

        `ready` is called once all folders are watched, and `changed` with folders to scan again. `failed` is called at
        most once, with the system's reason; nothing is called after it.
        """
        self.folders = frozenset(folders)
        self._root = root
        self._ready = ready
        self._changed = changed
        self._failed = failed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End soon. Nothing is called any more."""
        self._stop.set()

    def _run(self) -> None:
        try:
            self._watch()
        except OSError as err:
            if not self._stop.is_set():
                self._failed(err)

    def _watch(self) -> None:
        from asyncinotify import Inotify

        with Inotify() as inotify:
            folders = self._add_watches(inotify)
            self._ready()
            while not self._stop.is_set():
                changed = self._collect(inotify, folders)
                if changed and not self._stop.is_set():
                    self._changed(changed)

    def _add_watches(self, inotify: Inotify) -> dict[int, str]:
        """Watch all folders that exist and can be read. Return the folder of each watch descriptor."""
        from asyncinotify import Mask

        mask = (
            Mask.CREATE
            | Mask.DELETE
            | Mask.DELETE_SELF
            | Mask.MOVE
            | Mask.MOVE_SELF
            | Mask.MODIFY
            | Mask.CLOSE_WRITE
            | Mask.ATTRIB
            # A link that takes a folder's place is not followed.
            | Mask.ONLYDIR
            | Mask.DONT_FOLLOW
            | Mask.EXCL_UNLINK
        )
        folders = {}
        for folder in sorted(self.folders):
            path = f"{self._root}/{folder}" if folder else self._root
            with contextlib.suppress(
                FileNotFoundError, NotADirectoryError, PermissionError
            ):
                folders[inotify.add_watch(path, mask).wd] = folder
        return folders

    def _collect(self, inotify: Inotify, folders: dict[int, str]) -> set[str]:
        """Wait for changes, and return their folders once it is quiet again."""
        changed: set[str] = set()
        since = time.monotonic()
        inotify.sync_timeout = STOP_INTERVAL
        while not self._stop.is_set() and (event := inotify.sync_get()):
            if not (touched := self._touched(event, folders)):
                continue
            if not changed:
                since = time.monotonic()
                inotify.sync_timeout = QUIET_TIME
            changed.update(touched)
            if time.monotonic() - since >= MAX_DELAY:
                break
        return changed

    def _touched(self, event: Event, folders: dict[int, str]) -> Collection[str]:
        """Return the folders that an event is about: none if it does not matter."""
        from asyncinotify import Mask

        if Mask.Q_OVERFLOW in event.mask:
            # The system dropped events.
            return self.folders
        if event.watch is None or Mask.IGNORED in event.mask:
            return ()
        folder = folders[event.watch.wd]
        if event.name is None:
            # The folder itself changed: its parent has the entry.
            return (folder.rpartition("/")[0],)
        name = str(event.name)
        if is_left_out(name):
            return ()
        if Mask.ISDIR in event.mask or name.rpartition(".")[2].lower() in _FOLLOWED:
            return (folder,)
        return ()


def limit_of(err: OSError) -> str | None:
    """Return the name of the system setting that is too low, if that is why folders cannot be watched."""
    return _LIMITS.get(err.errno or 0)


def limit_value(setting: str) -> str:
    """Return the present value of a setting; "" if the system does not tell."""
    with contextlib.suppress(OSError):
        path = Path("/proc/sys", *setting.split("."))
        return path.read_text(encoding="ascii").strip()
    return ""
