"""Runs the engine but opens no file of its library, so that a hundred thousand of them are soon read.

    python friends_unread.py PYTHON -I .../p2p/__main__.py run ...

It stands before the command of an engine, takes its place, and runs in its environment.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

from library import NothingRead

if TYPE_CHECKING:
    from custom_components.pemus.p2p import cli, engine
    from custom_components.pemus.p2p.library.reading import Reading
    from custom_components.pemus.p2p.media.facts import MediaFacts
else:
    # Where `library` has put it on the path.
    from p2p import cli, engine
    from p2p.library.reading import Reading
    from p2p.media.facts import MediaFacts


class Unread(NothingRead):
    """A media reader that is never asked anything."""

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing."""


async def _nothing(_reading: object, _item: object) -> MediaFacts:
    """Stand in for looking at a file and reading it."""
    return MediaFacts()


if __name__ == "__main__":
    cast(Any, engine).MediaReader = Unread
    cast(Any, Reading)._facts = _nothing  # noqa: SLF001 - a look at each file takes minutes
    sys.exit(cli.main(sys.argv[sys.argv.index("run") :]))
