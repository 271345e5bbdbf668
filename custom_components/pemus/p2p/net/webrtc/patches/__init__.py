"""Changes to aiortc and aioice that links need, and the only code that touches their private parts.

Each module changes the objects of one connection, never a class, so other users of the libraries are not affected.
"""

from __future__ import annotations

from typing import Final

REVIEWED: Final = {"aiortc": "1.16.0", "aioice": "0.13.0"}
"""The versions that the patches were written for. A test fails when another one is pinned: read what changed upstream in
the parts that the patches touch, run the tests of `net/`, then change the version here."""
