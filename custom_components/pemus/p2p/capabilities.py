"""Which optional libraries the engine's environment has.

Under Home Assistant's own interpreter some are missing; the engine then does with less, and says so in its status.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

DISTRIBUTIONS = {
    "libtorrent": "libtorrent",
    "av": "av",
    "mutagen": "mutagen",
    "PIL": "pillow",
    "pillow_heif": "pillow-heif",
    "asyncinotify": "asyncinotify",
    "pysubs2": "pysubs2",
}
"""Module to distribution, of every optional library."""


def installed() -> dict[str, str | None]:
    """Return the version of each optional library by the name of its module, without loading any; None when missing."""
    return {module: _version(name) for module, name in DISTRIBUTIONS.items()}


def loadable() -> dict[str, str | None]:
    """Return the same as `installed`, but None also for a library that does not load here: the proof of a new environment."""
    found = installed()
    for module in found:
        try:
            import_module(module)
        except Exception:  # noqa: BLE001 - whatever a broken library raises, it is of no use
            found[module] = None
    return found


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
