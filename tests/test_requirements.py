"""What a home installs is pinned and hashed."""

import json
from pathlib import Path
import re

import pytest

from custom_components.pemus.engine.provision import REQUIREMENTS
from custom_components.pemus.p2p.models.version import VERSION

MANIFEST = REQUIREMENTS.parents[1] / "manifest.json"
SIGNALING = REQUIREMENTS.parents[3] / "signaling_addon" / "requirements.txt"
PACKAGES = {
    REQUIREMENTS: (
        "libtorrent",
        "av",
        "mutagen",
        "pillow",
        "pillow-heif",
        "asyncinotify",
        "pysubs2",
        "aiortc",
        "cryptography",
        "crc32c",
    ),
    SIGNALING: ("picows", "uvloop", "cryptography", "orjson", "redis"),
}
every_list = pytest.mark.parametrize(
    "requirements", PACKAGES, ids=["engine", "signalling"]
)


@every_list
def test_what_the_project_needs_is_in_the_list(requirements: Path) -> None:
    """Whether there are wheels of it for every machine, `script/check-wheels` asks the registry."""
    text = requirements.read_text(encoding="utf-8")
    for name in PACKAGES[requirements]:
        assert re.search(rf"^{name}==", text, re.MULTILINE), name


@every_list
def test_every_package_is_pinned_and_hashed(requirements: Path) -> None:
    text = requirements.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and line[0] != "#"]
    assert len(lines) > 10
    for line in lines:
        assert re.match(
            r"[a-z0-9-]+==[0-9][\w.]*( ;.*?)?  +--hash=sha256:[0-9a-f]{64}", line
        ), line


@every_list
def test_no_index_is_named(requirements: Path) -> None:
    assert "://" not in requirements.read_text(encoding="utf-8")


def test_the_manifest_and_the_engine_are_of_one_release() -> None:
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    assert manifest["version"] == VERSION
