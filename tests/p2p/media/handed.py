"""Files as the reader is handed them: open."""

from __future__ import annotations

from dataclasses import dataclass

from p2p.core import paths
from p2p.media.covers import folder_cover
from p2p.media.source import Opened


@dataclass(frozen=True)
class File:
    """A file as the reader is handed it, with the cover in its folder."""

    path: str

    def open(self) -> Opened:
        folder, _, name = self.path.rpartition("/")
        with paths.opened_root(folder) as root:
            file = paths.open_in(root, name)
            cover = folder_cover(root)
            return Opened(file, None if cover is None else paths.open_in(root, cover))
