"""What a home installs is pinned, hashed, and there as wheels for every machine that Home Assistant runs on."""

import json
from pathlib import Path
import re
import subprocess
import sys

import pytest

from custom_components.pemus.p2p.version import VERSION
from custom_components.pemus.provision import PYTHON_VERSION, REQUIREMENTS, _find_uv

MANIFEST = REQUIREMENTS.parents[1] / "manifest.json"
SIGNALING = REQUIREMENTS.parents[3] / "signaling_addon" / "requirements.txt"
PACKAGES = {
    REQUIREMENTS: (
        "libtorrent",
        "av",
        "mutagen",
        "pillow",
        "pillow-heif",
        "watchfiles",
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


@pytest.mark.timeout(300)
@every_list
@pytest.mark.parametrize(
    "platform",
    [
        # glibc 2.28 is older than what any supported system has.
        "x86_64-manylinux_2_28",
        "aarch64-manylinux_2_28",
        # Home Assistant OS and its containers.
        "x86_64-unknown-linux-musl",
        "aarch64-unknown-linux-musl",
    ],
)
def test_there_are_wheels_for(
    platform: str, requirements: Path, tmp_path: Path
) -> None:
    resolved = subprocess.run(
        [
            *(_find_uv(), "pip", "install", "--dry-run", "--no-config"),
            *("--python", sys.executable, "--target", str(tmp_path / "target")),
            *("--python-platform", platform, "--python-version", PYTHON_VERSION),
            *("--only-binary", ":all:", "--require-hashes", "--no-deps"),
            *("-r", str(requirements)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert resolved.returncode == 0, resolved.stderr
    for name in PACKAGES[requirements]:
        assert f" {name}==" in resolved.stderr


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
