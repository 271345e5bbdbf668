"""The patches fit the pinned versions of aiortc and aioice."""

from __future__ import annotations

from importlib.metadata import version
import inspect
from pathlib import Path
import re
from typing import Any

import pytest

import p2p
from p2p.net.webrtc.patches import REVIEWED, crc

crc.lend()

from aiortc import RTCPeerConnection  # noqa: E402

ENGINE = Path(p2p.__file__).parent
PATCHES = ENGINE / "net" / "webrtc" / "patches"


@pytest.mark.parametrize("package", REVIEWED)
def test_the_patches_were_reviewed_for_the_pinned_version(package: str) -> None:
    pins = (ENGINE / "requirements.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{package}==(\S+)", pins, re.MULTILINE)
    assert found is not None
    for what, number in (("pinned", found[1]), ("installed", version(package))):
        assert number == REVIEWED[package], (
            f"{package} {number} is {what}, but net/webrtc/patches was reviewed for {REVIEWED[package]}. Compare the two"
            f" versions in what the patches touch, run tests/p2p/net, then set REVIEWED[{package!r}] to {number!r}."
        )


async def test_everything_private_that_the_patches_touch_exists() -> None:
    connection = RTCPeerConnection()
    connection.createDataChannel("test", negotiated=True, id=0)
    sctp: Any = connection.sctp
    dtls = sctp.transport
    ice = dtls.transport._connection
    try:
        source = "".join(each.read_text() for each in PATCHES.glob("*.py"))
        touched = {"sctp": sctp, "_sctp": sctp, "_ice": ice, "transport": dtls}
        for owner, name in re.findall(r"\b(_?sctp|_ice|transport)\.(_\w+)", source):
            if name != "_connection":
                whole = inspect.getsource(type(touched[owner]))
                assert re.search(rf"(self\.|def ){name}\b", whole), (
                    f"{owner} has no {name} any more"
                )
        assert callable(ice.check_complete)
        assert callable(ice.get_component_candidates)
    finally:
        await connection.close()


def test_nothing_else_in_the_engine_touches_private_parts_of_the_libraries() -> None:
    """Ruff forbids private access everywhere (SLF001), except where a comment allows it."""
    for path in ENGINE.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        if PATCHES not in path.parents and re.search(
            r"import (aiortc|aioice)|from (aiortc|aioice)", source
        ):
            assert "SLF001" not in source, path
