"""Where libtorrent is missing, friends' films come over the link, and are given over it: whole engines of real environments."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
import subprocess
import sys
import sysconfig
import tempfile
import venv

import pytest

from tests.lab.engine_home import EngineHome, EngineHomeError
from tests.p2p.test_friends import PYTHON, SIZE, digest, fill

ENGINE = Path(__file__).parents[3] / "custom_components" / "pemus" / "p2p"


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with all of this one's libraries but libtorrent."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = place / "lib" / version / "site-packages"
    for name in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(name).iterdir():
            target = packages / entry.name
            if not entry.name.startswith("libtorrent") and not target.exists():
                target.symlink_to(entry)
    python = place / "bin" / "python"
    missing = subprocess.run([python, "-c", "import libtorrent"], check=False)
    assert missing.returncode != 0
    return python


@pytest.fixture(params=["receiver", "owner", "both"])
async def homes(
    request: pytest.FixtureRequest, without: Path
) -> AsyncIterator[tuple[EngineHome, EngineHome, Path]]:
    """Ann, and Bob whose film she plays; one of them has no libtorrent, or both."""
    lacking = {"receiver": ("Ann",), "owner": ("Bob",), "both": ("Ann", "Bob")}
    with tempfile.TemporaryDirectory(prefix="pemus-") as name:
        folder = Path(name)
        films = fill(folder / "Films", Ocean=SIZE, Pond=100_000)
        async with AsyncExitStack() as stack:
            ann, bob = [
                await stack.enter_async_context(
                    EngineHome(
                        folder / each,
                        python=without if each in lacking[request.param] else PYTHON,
                        name=each,
                        log_level="debug",
                    )
                )
                for each in ("Ann", "Bob")
            ]
            for each in (ann, bob):
                found = (await each.ask("GET", "status"))["capabilities"]["libtorrent"]
                assert (found is None) == (each.name in lacking[request.param])
            await bob.share(films)
            await ann.sees(bob)
            await bob.sees(ann)
            await ann.pair(bob)
            yield ann, bob, films


async def test_a_friends_films_play(
    homes: tuple[EngineHome, EngineHome, Path],
) -> None:
    ann, bob, films = homes
    items = {title: item for item, title in (await ann.listed(bob, 2)).items()}
    # At any place first, and then whole.
    start = SIZE * 3 // 4
    part = await ann.play(bob, items["Ocean"], start, 1_000_000)
    assert part == digest(films / "Ocean.mp4", start, 1_000_000)
    for title, item in items.items():
        assert await ann.play(bob, item) == digest(films / f"{title}.mp4")
    # What is here is played from here, also after a restart.
    await ann.stop()
    await ann.start()
    await bob.stop()
    assert await ann.play(bob, items["Ocean"]) == digest(films / "Ocean.mp4")


async def test_what_was_taken_back_does_not(
    homes: tuple[EngineHome, EngineHome, Path],
) -> None:
    ann, bob, _ = homes
    items = await ann.listed(bob, 2)
    await bob.befriend(ann, shares=())
    with pytest.raises(EngineHomeError):
        await ann.play(bob, next(iter(items)))


async def test_a_copy_to_keep_is_fetched_whole(
    homes: tuple[EngineHome, EngineHome, Path],
) -> None:
    ann, bob, _ = homes
    items = {title: item for item, title in (await ann.listed(bob, 2)).items()}
    path = f"items/{bob.id}/{items['Ocean']}"
    await ann.ask("GET", f"{path}/file")
    await ann.ask("PUT", f"{path}/pin")

    async def complete() -> bool:
        transfers = (await ann.ask("GET", "transfers"))["items"]
        return any(each["state"] == "complete" for each in transfers)

    await ann.until(complete, "a whole copy")
