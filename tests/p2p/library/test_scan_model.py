"""Whatever happens to the files of a share, a scan makes the index say what is there, and ids stay with their files."""

from __future__ import annotations

from pathlib import Path
import shutil
import tempfile

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
import pytest

from p2p.library.scan import RootUnavailable
from p2p.library.store import Store

from .conftest import LONG_AGO, Share, check

FOLDERS = ["", "a", "b", "a/c", "ü #%"]
NAMES = ["x.mp4", "y.mp3", "z.jpg", "Ä 'quoted'\n.mkv", "notes.txt", ".hidden.mp4"]
PATHS = [f"{folder}/{name}" if folder else name for folder in FOLDERS for name in NAMES]


class FilesOfAShare(RuleBasedStateMachine):
    """Changes files at random and scans now and then, beside a model of what should come of it."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="pemus-model-"))
        (self.base / "data").mkdir()
        self.root = self.base / "share"
        self.store = Store(self.base / "data" / "library.db")
        self.store.open()
        self.root.mkdir()
        self.share = Share(self.root, self.store)
        self.clock = LONG_AGO
        self.plugged = True
        # Content by path, as it is on disk.
        self.files: dict[str, bytes] = {}
        # The id that each file brings along; None where it was written since the last scan.
        self.origin: dict[str, str | None] = {}
        self.known: dict[str, str] = {}
        self.scanned = True

    def teardown(self) -> None:
        try:
            with self.store.write() as db:
                check(db)
        finally:
            self.store.close()
            shutil.rmtree(self.base)

    def _write(self, path: str, content: bytes) -> None:
        self.clock += 1
        self.share.put(path, content, at=self.clock)
        self.scanned = False

    @precondition(lambda self: self.plugged)
    @rule(path=st.sampled_from(PATHS), content=st.binary(max_size=8))
    def write(self, path: str, content: bytes) -> None:
        """Create a file, or overwrite it: then the id stays."""
        self._write(path, content)
        self.origin[path] = None
        self.files[path] = content

    @precondition(lambda self: self.plugged and self.files)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Remove a file."""
        path = data.draw(st.sampled_from(sorted(self.files)))
        (self.root / path).unlink()
        del self.files[path]
        self.origin.pop(path)
        self.scanned = False

    @precondition(lambda self: self.plugged and self.files)
    @rule(data=st.data(), to=st.sampled_from(PATHS))
    def move(self, data: st.DataObject, to: str) -> None:
        """Rename a file, perhaps over another one: then the place keeps its id."""
        source = data.draw(st.sampled_from(sorted(self.files)))
        if source == to:
            return
        (self.root / to).parent.mkdir(parents=True, exist_ok=True)
        (self.root / source).replace(self.root / to)
        self.files[to] = self.files.pop(source)
        self.origin[to] = self.origin.pop(source)
        self.scanned = False

    @precondition(lambda self: self.plugged)
    @rule(source=st.sampled_from(["a", "b", "a/c"]), to=st.sampled_from(["d", "e"]))
    def move_folder(self, source: str, to: str) -> None:
        """Rename a folder to a name that no folder has, and back later."""
        if not (self.root / source).is_dir() or (self.root / to).exists():
            return
        (self.root / source).rename(self.root / to)
        for path in [each for each in self.files if each.startswith(f"{source}/")]:
            moved = to + path[len(source) :]
            self.files[moved] = self.files.pop(path)
            self.origin[moved] = self.origin.pop(path)
        self.scanned = False

    @precondition(lambda self: self.plugged)
    @rule()
    def unplug(self) -> None:
        """Take the disk away, so that its empty mount point is left."""
        self.root.rename(self.base / "disk")
        self.root.mkdir()
        self.plugged = False

    @precondition(lambda self: not self.plugged)
    @rule()
    def plug(self) -> None:
        """Bring the disk back."""
        self.root.rmdir()
        (self.base / "disk").rename(self.root)
        self.plugged = True

    @rule()
    def restart(self) -> None:
        """Close the index and open it again."""
        self.store.close()
        self.store.open()

    @rule()
    def doubt(self) -> None:
        """Have the next scan compare file by file, as after anything that may have changed an item."""
        with self.store.write() as db:
            db.execute("UPDATE folders SET listing = NULL")

    @rule()
    def scan(self) -> None:
        """Scan everything, and compare."""
        if not self.plugged and self.known:
            with pytest.raises(RootUnavailable):
                self.share.scan()
            assert self.share.ids() == self.known
            return
        if not self.plugged:
            return
        before = dict(self.known)
        self.share.scan()
        ids = self.share.ids()
        assert ids.keys() == {path for path in self.files if self._is_media(path)}
        for path, identifier in ids.items():
            # A place that had an item at the last scan keeps that one's id, whatever is there now.
            expected = self.known.get(path, self.origin[path])
            if expected is not None and (
                path in self.known or expected not in self._kept_in_place()
            ):
                assert identifier == expected, path
        assert len(set(ids.values())) == len(ids)
        sizes = {
            (f"{folder}/{name}" if folder else name): size
            for folder, name, size in self.share.rows("path, name, size")
        }
        assert sizes == {path: len(self.files[path]) for path in ids}
        # What went away is told, so that nobody keeps showing it.
        gone = set(before.values()) - set(ids.values())
        assert gone <= set(self.share.touched)
        self.known = ids
        self.origin = {path: ids.get(path) for path in self.files}
        self.share.touched.clear()
        self.scanned = True

    @precondition(lambda self: self.plugged and self.scanned)
    @rule()
    def scan_again(self) -> None:
        """Scan what did not change."""
        if not self.known:
            return
        assert self.share.scan().items == len(self.known)
        assert self.share.ids() == self.known
        assert self.share.touched == []

    @invariant()
    def counted(self) -> None:
        """Counts are those of the items that are listed."""
        total = sum(count for count, _ in self.share.counts().values())
        assert total == len(self.share.paths)

    def _is_media(self, path: str) -> bool:
        name = Path(path).name
        return not name.startswith(".") and not name.endswith(".txt")

    def _kept_in_place(self) -> set[str]:
        """Return the ids that stay where they were at the last scan."""
        return {each for path, each in self.known.items() if path in self.files}


FilesOfAShare.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestFilesOfAShare = FilesOfAShare.TestCase
