"""Notices changes in a share's folders while they happen, as far as the system tells of them.

Each folder is watched by itself. Letting the library watch a tree would follow symbolic links out of the share, and
would spend the system's limited number of watches on hidden folders. Where watching is impossible, the periodic scan
finds what changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
import contextlib
from importlib.util import find_spec
import os
from pathlib import Path
import re
import threading
import time

from ..media.types import EXTENSIONS, SUBTITLE_EXTENSIONS
from .names import is_left_out

DEBOUNCE = 1000
"""Milliseconds for which changes are collected at most."""
STEP = 200
"""Milliseconds without a change after which those so far are handed on."""
READY = 300
"""Milliseconds after which a quiet watcher says that it works."""

AGAIN = 1.0
"""Seconds until watching begins anew after a name that the library cannot tell of: one that is no UTF-8."""
LOOK_AT_ALL = 60.0
"""Seconds after which all folders are looked at then, as what happened meanwhile was not seen. More such names come with it."""

IS_POSSIBLE = find_spec("watchfiles") is not None
"""Whether the library that does it is there. Without it, changes are found by the periodic scans."""

_NEVER = float("inf")
_UNREADABLE = re.compile('Unable to decode path "(.*)" to string', re.DOTALL)
_ESCAPED = re.compile(
    r"\\(?:x(?P<byte>[0-9A-F]{2})|u\{(?P<code>[0-9a-f]+)\}|(?P<as_is>.))"
)
"""How Rust shows what it does not print."""
_CONTROL = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}

_FOLLOWED = EXTENSIONS.keys() | SUBTITLE_EXTENSIONS
_SETTINGS = ("max_user_watches", "max_user_instances")


class Watcher:
    """Watches folders in a thread of its own. The callbacks are called in that thread."""

    def __init__(
        self,
        root: str,
        folders: Collection[str],
        *,
        ready: Callable[[], None],
        changed: Callable[[set[str]], None],
        failed: Callable[[str, str | None], None],
    ) -> None:
        """Watch `folders`, paths below the root of a share.

        `ready` is called once all are watched, `changed` with folders to scan again, and `failed` at most once, after
        which nothing more comes: with the reason, and the name of the system's setting that is too low if that is why.
        """
        self.folders = frozenset(folders)
        self._root = root
        self._ready = ready
        self._changed = changed
        self._failed = failed
        self._stop = threading.Event()
        self._is_ready = False
        self._missed: set[str] = set()
        """Folders in which something happened that could not be told."""
        self._look_at_all = _NEVER
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End soon; nothing is called any more."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._watch()
            except Exception as err:  # noqa: BLE001 - the library raises whatever the system says
                if self._stop.is_set():
                    return
                if (named := _UNREADABLE.search(str(err))) is None:
                    self._failed(str(err), limit_of(str(err)))
                    return
                # It drops what else it saw, and tells nothing more.
                self._begin_anew(_unescaped(named[1]))
            else:
                return

    def _begin_anew(self, path: str) -> None:
        """Prepare to watch once more after something happened to a file whose name is no UTF-8."""
        folder = path[len(self._root) :].strip("/").rpartition("/")[0]
        if folder in self.folders:
            self._missed.add(folder)
        if self._look_at_all == _NEVER:
            self._look_at_all = time.monotonic() + LOOK_AT_ALL
        self._stop.wait(AGAIN)

    def _watch(self) -> None:
        from watchfiles import Change, watch

        paths = [self._path(folder) for folder in sorted(self.folders)]
        for changes in watch(
            *[path for path in paths if os.access(path, os.R_OK)],
            watch_filter=None,
            debounce=DEBOUNCE,
            step=STEP,
            stop_event=self._stop,
            rust_timeout=READY,
            yield_on_timeout=True,
            raise_interrupt=False,
            force_polling=False,
            recursive=False,
            # It would also ignore that the limit is reached. What may not be read was left out above.
            ignore_permission_denied=False,
        ):
            if self._stop.is_set():
                return
            if not self._is_ready:
                self._is_ready = True
                self._ready()
            folders = {
                folder
                for change, path in changes
                if (folder := self._touched(path, change == Change.deleted)) is not None
            }
            if time.monotonic() >= self._look_at_all:
                self._look_at_all = _NEVER
                folders |= self.folders
            folders |= self._missed
            self._missed.clear()
            if folders:
                self._changed(folders)

    def _path(self, folder: str) -> str:
        return f"{self._root}/{folder}" if folder else self._root

    def _touched(self, path: str, deleted: bool) -> str | None:
        """Return the folder that a change is about, None if the change does not matter."""
        if path == self._root:
            return ""
        if not path.startswith(self._root.rstrip("/") + "/"):
            return None
        below = path[len(self._root.rstrip("/")) + 1 :]
        folder, _, name = below.rpartition("/")
        if is_left_out(name):
            return None
        if name.rpartition(".")[2].lower() in _FOLLOWED:
            return folder
        # Of all other names, only those of folders matter.
        is_folder = below in self.folders if deleted else os.path.isdir(path)  # noqa: PTH112 - a link is no folder here
        return folder if is_folder else None


def _unescaped(shown: str) -> str:
    """Return a path that Rust shows as it is."""

    def plain(escaped: re.Match[str]) -> str:
        if (byte := escaped["byte"]) is not None:
            return os.fsdecode(bytes.fromhex(byte))
        if (code := escaped["code"]) is not None:
            return chr(int(code, 16))
        return _CONTROL.get(escaped["as_is"], escaped["as_is"])

    return _ESCAPED.sub(plain, shown)


def limit_of(reason: str) -> str | None:
    """Return the name of the setting that is too low, if that is why folders cannot be watched."""
    lowered = reason.lower()
    if "os file watch limit" in lowered or "no space left" in lowered:
        return f"fs.inotify.{_SETTINGS[0]}"
    if "too many open files" in lowered:
        return f"fs.inotify.{_SETTINGS[1]}"
    return None


def limit_value(setting: str) -> str:
    """Return the present value of a setting; "" if the system does not tell."""
    with contextlib.suppress(OSError):
        path = Path("/proc/sys", *setting.split("."))
        return path.read_text(encoding="ascii").strip()
    return ""
