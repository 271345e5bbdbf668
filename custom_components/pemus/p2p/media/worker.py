"""The child process that reads files: one request a line in, one answer a line out, until its input ends.

It is handed open descriptors of what it is to read and write, and no paths. It is kept small and quiet: lowest priority,
bounded memory, no core dumps, and where the kernel has Landlock it can open nothing but its own program and libraries, write
nothing, and reach nobody. It ends by itself when the engine does, and when a file keeps it busy for longer than the engine
would wait.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
import fcntl
import importlib
import io
import json
import os
from pathlib import Path
import resource
import signal
import socket
import sys
from typing import Any, BinaryIO, cast
import warnings

from ..core import landlock
from ..models import Kind
from .facts import MediaError

MEMORY_LIMIT = 1024 * 1024 * 1024
"""Bytes of data that a file may make this process hold."""
FILE_LIMIT = 64 * 1024 * 1024
"""Bytes of any file that is written here."""
MAX_REQUEST = 64 * 1024
"""Bytes of a request."""
LIBRARIES = ("av", "mutagen", "PIL", "pillow_heif", "pysubs2")

_LOWEST_PRIORITY = 19
_MOST = 3
"""Descriptors that come with a request, at most."""
_SYSTEM_LIBRARIES = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"),
    *("/etc/ld.so.cache", "/etc/ld-musl-x86_64.path", "/etc/ld-musl-aarch64.path"),
)


def main() -> None:
    """Answer requests until there are no more."""
    requests, answers = _take_pipes()
    _limit()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    # They would be about files, of which the answer says what is wrong.
    warnings.simplefilter("ignore")
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, MAX_REQUEST, _MOST)
        if not message:
            return
        request = json.loads(message)
        # The engine kills this process before that, unless it is gone itself.
        signal.alarm(request["limit"])
        with ExitStack() as stack:
            files = [stack.enter_context(_file(each)) for each in descriptors]
            answer = _answer(request, dict(zip(request["files"], files, strict=True)))
        signal.alarm(0)
        # ASCII, as names of files may hold bytes that are no UTF-8.
        answers.write(json.dumps({"id": request["id"], **answer}).encode() + b"\n")
        answers.flush()


def _file(descriptor: int) -> BinaryIO:
    """Return an open file, from its beginning: another process may have been handed it before, and been killed."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    writing = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
    if writing:
        os.ftruncate(descriptor, 0)
    # Errors of writing must show when it is written, not when it is closed.
    return cast(
        "BinaryIO",
        io.FileIO(descriptor, "wb") if writing else os.fdopen(descriptor, "rb"),
    )


def _take_pipes() -> tuple[socket.socket, BinaryIO]:
    """Keep the pipes for this module: what native libraries print goes to stderr, and they read nothing."""
    requests = socket.socket(fileno=os.dup(0))
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _limit() -> None:
    # The kernel derives the lowest priority for disks from this one.
    os.nice(_LOWEST_PRIORITY)
    for limit, value in (
        (resource.RLIMIT_DATA, MEMORY_LIMIT),
        (resource.RLIMIT_FSIZE, FILE_LIMIT),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(limit)
        if hard == resource.RLIM_INFINITY or hard > value:
            resource.setrlimit(limit, (value, value))
    landlock.restrict((), readable=_own())


def _own() -> list[Path]:
    """Return what this program is made of, and the system's libraries: parts of it are loaded when they are needed."""
    package = Path(__file__).resolve().parents[1]
    found = [package, *map(Path, (*sys.path, *_SYSTEM_LIBRARIES))]
    for folder in map(Path, sys.path):
        # Some installers put links to the libraries there.
        if folder.is_dir():
            found += [each.resolve() for each in folder.iterdir() if each.is_symlink()]
    return found


def _answer(request: dict[str, Any], files: dict[str, BinaryIO]) -> dict[str, Any]:
    """Do what is asked for. What fails without being the file's fault is answered as an error."""
    try:
        match request["job"]:
            case "versions":
                return {"versions": {name: _version(name) for name in LIBRARIES}}
            case "read":
                return {"facts": _read(request, files)}
            case "picture":
                return {"made": _picture(request, files)}
            case _:
                return {"made": _subtitles(files)}
    except MediaError as err:
        return {"error": str(err)}
    except OSError as err:
        return {"error": err.strerror or str(err), "errno": err.errno}
    except Exception as err:  # noqa: BLE001 - one file must not end the reading of the others
        return {"error": f"{type(err).__name__}: {err}"[:500]}


def _version(library: str) -> str | None:
    try:
        module = importlib.import_module(library)
    except ImportError:
        return None
    version = (
        getattr(module, name, None)
        for name in ("__version__", "version_string", "VERSION")
    )
    return next((str(each) for each in version if each), "unknown")


def _read(request: dict[str, Any], files: dict[str, BinaryIO]) -> dict[str, Any]:
    from .read import read

    kind = Kind(request["kind"])
    return asdict(read(files["file"], kind, has_cover="cover" in files))


def _picture(request: dict[str, Any], files: dict[str, BinaryIO]) -> bool:
    try:
        from .picture import make_picture
    except ImportError:
        return False
    made = make_picture(
        files["file"], files.get("cover"), Kind(request["kind"]), request["size"]
    )
    if made is not None:
        _write(files["target"], made)
    return made is not None


def _subtitles(files: dict[str, BinaryIO]) -> bool:
    from .subtitles import convert

    try:
        converted = convert(files["file"])
    except OSError as err:
        raise MediaError(
            f"The subtitle file cannot be read: {err.strerror or err}."
        ) from None
    _write(files["target"], converted)
    return True


def _write(file: BinaryIO, content: bytes) -> None:
    """Write all of it. Raises OSError."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
