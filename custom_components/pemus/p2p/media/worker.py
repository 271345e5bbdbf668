"""The child process that reads files: one request a line in, one answer a line out, until its input ends.

It is kept small and quiet: lowest priority, bounded memory, no core dumps. It ends by itself when the engine does,
and when a file keeps it busy for longer than the engine would wait.
"""

from __future__ import annotations

from dataclasses import asdict
import importlib
import json
import os
from pathlib import Path
import resource
import signal
from typing import Any, BinaryIO
import warnings

from ..models import Kind
from .facts import MediaError

MEMORY_LIMIT = 1024 * 1024 * 1024
"""Bytes of data that a file may make this process hold."""
FILE_LIMIT = 64 * 1024 * 1024
"""Bytes of any file that is written here."""
LIBRARIES = ("av", "mutagen", "PIL", "pysubs2")

_LOWEST_PRIORITY = 19


def main() -> None:
    """Answer requests until there are no more."""
    requests, answers = _take_pipes()
    _limit()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    # They would be about files, of which the answer says what is wrong.
    warnings.simplefilter("ignore")
    for line in requests:
        request = json.loads(line)
        # The engine kills this process before that, unless it is gone itself.
        signal.alarm(request["limit"])
        answer = _answer(request)
        signal.alarm(0)
        # ASCII, as names of files may hold bytes that are no UTF-8.
        answers.write(json.dumps({"id": request["id"], **answer}).encode() + b"\n")
        answers.flush()


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep the pipes for this module: what native libraries print goes to stderr, and they read nothing."""
    requests = os.fdopen(os.dup(0), "rb")
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


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked for. What fails without being the file's fault is answered as an error."""
    try:
        match request["job"]:
            case "versions":
                return {"versions": {name: _version(name) for name in LIBRARIES}}
            case "read":
                return {"facts": _read(request)}
            case "picture":
                return {"made": _picture(request)}
            case _:
                return {"made": _subtitles(request)}
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


def _read(request: dict[str, Any]) -> dict[str, Any]:
    from .read import read

    return asdict(read(request["path"], Kind(request["kind"])))


def _picture(request: dict[str, Any]) -> bool:
    try:
        from .picture import make_picture
    except ImportError:
        return False
    return make_picture(
        request["path"],
        Kind(request["kind"]),
        request["size"],
        Path(request["partial"]),
        Path(request["target"]),
    )


def _subtitles(request: dict[str, Any]) -> bool:
    from .source import write_whole
    from .subtitles import convert

    try:
        converted = convert(request["path"])
    except OSError as err:
        raise MediaError(
            f"The subtitle file cannot be read: {err.strerror or err}."
        ) from None
    write_whole(converted, Path(request["partial"]), Path(request["target"]))
    return True
