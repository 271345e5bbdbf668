"""A home without Home Assistant: it says what is wrong, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import tempfile

import psutil
import pytest

from tests.lab.engine_home import EngineHome, EngineHomeError

PYTHON = Path(__file__).parents[2] / ".venvs" / "engine" / "bin" / "python"


@pytest.fixture(autouse=True)
def run_folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have sockets be made where they can be counted: not in pytest's folders, whose paths are too long for them."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


async def test_it_shares_films_with_a_friend_and_ends(
    tmp_path: Path, run_folders: Path
) -> None:
    (tmp_path / "films").mkdir()
    # Something that begins like a film; nobody will look at it.
    start = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41"
    for name in ("One.mp4", "Two.mp4"):
        (tmp_path / "films" / name).write_bytes(start + name.encode() * 5000)
    (tmp_path / "films" / "Empty.mp4").touch()
    async with (
        EngineHome(tmp_path / "owner", python=PYTHON) as owner,
        EngineHome(tmp_path / "friend", python=PYTHON, name="Ann") as friend,
    ):
        processes = [psutil.Process(each.process.pid) for each in (owner, friend)]
        await owner.share(tmp_path / "films")
        assert set((await owner.items()).values()) == {"One", "Two", "Empty"}
        await owner.sees(friend)
        await friend.sees(owner)
        await owner.befriend(friend)
        await friend.befriend(owner)
        listed = await friend.listed(owner, 3)
        assert set(listed.values()) == {"One", "Two", "Empty"}
    assert not any(process.is_running() for process in processes)
    assert not list(run_folders.iterdir())


async def test_an_engine_that_cannot_start_says_so(
    tmp_path: Path, run_folders: Path
) -> None:
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "data").write_text("in the way")

    with pytest.raises(EngineHomeError, match="did not start"):
        async with EngineHome(tmp_path / "second", python=PYTHON):
            pass

    assert not list(run_folders.iterdir())


async def test_what_was_not_started_cannot_be_asked(tmp_path: Path) -> None:
    second = EngineHome(tmp_path, python=PYTHON)

    with pytest.raises(EngineHomeError):
        await second.items()
    with pytest.raises(EngineHomeError):
        await second.peers()
    await second.stop()
