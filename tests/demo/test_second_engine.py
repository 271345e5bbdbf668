"""The second engine of the demo: it says what is wrong, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import sys
import tempfile

import psutil
import pytest

from demo.second_engine import SecondEngine, SecondEngineError

PYTHON = Path(__file__).parents[2] / ".venvs" / "engine" / "bin" / "python"


@pytest.fixture(autouse=True)
def run_folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have sockets be made where they can be counted: not in pytest's folders, whose paths are too long for them."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


async def test_it_gives_another_engine_what_it_shares_and_ends(
    tmp_path: Path, run_folders: Path
) -> None:
    (tmp_path / "films").mkdir()
    # Something that begins like a film; nobody will look at it.
    start = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41"
    for name in ("One.mp4", "Two.mp4"):
        (tmp_path / "films" / name).write_bytes(start + name.encode() * 5000)
    (tmp_path / "films" / "Empty.mp4").touch()
    async with (
        SecondEngine(tmp_path / "owner", python=PYTHON) as owner,
        SecondEngine(tmp_path / "receiver", python=PYTHON) as receiver,
    ):
        processes = [psutil.Process(each.process.pid) for each in (owner, receiver)]
        await owner.share(tmp_path / "films")
        assert set((await owner.items()).values()) == {"One", "Two", "Empty"}

        assert await owner.give_all(receiver.socket) == 3

        (home,) = (await receiver.ask("GET", "browse", node=""))["children"]
        assert home["title"] == "Second home"
        assert set((await receiver.items(home["id"])).values()) == {
            "One",
            "Two",
            "Empty",
        }
    assert not any(process.is_running() for process in processes)
    assert not list(run_folders.iterdir())


async def test_an_engine_that_cannot_start_says_so(
    tmp_path: Path, run_folders: Path
) -> None:
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "data").write_text("in the way")

    with pytest.raises(SecondEngineError, match="did not start"):
        async with SecondEngine(tmp_path / "second", python=PYTHON):
            pass

    assert not list(run_folders.iterdir())


async def test_an_engine_without_libtorrent_gives_no_tickets(tmp_path: Path) -> None:
    # Home Assistant's own interpreter has no libtorrent.
    async with SecondEngine(tmp_path, python=Path(sys.executable)) as second:
        with pytest.raises(SecondEngineError, match="libtorrent"):
            await second.give("a" * 26, second.socket)


async def test_what_was_not_started_cannot_be_asked(tmp_path: Path) -> None:
    second = SecondEngine(tmp_path, python=PYTHON)

    with pytest.raises(SecondEngineError):
        await second.items()
    with pytest.raises(SecondEngineError):
        await second.command("status")
    await second.stop()
