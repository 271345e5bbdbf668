"""What a reader is handed of a file: open descriptors, never a path, so that nothing else can take the file's place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Opened:
    """Descriptors for reading, which belong to whoever has them."""

    file: int
    cover: int | None = None
    """The cover in the folder of a song, if there is one."""

    @property
    def all(self) -> list[int]:
        """All of them."""
        return [self.file] if self.cover is None else [self.file, self.cover]


class Source(Protocol):
    """Where a file is."""

    @property
    def path(self) -> str:
        """Its path, for the log."""

    def open(self) -> Opened:
        """Open it. Raises OSError."""
