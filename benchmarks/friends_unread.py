"""Runs the engine with a media reader that opens no file, so that a hundred thousand of them are soon read.

    python friends_unread.py PYTHON -I .../p2p/__main__.py run ...

It stands before the command of an engine, takes its place, and runs in its environment.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

from library import NothingRead

if TYPE_CHECKING:
    from custom_components.pemus.p2p import cli, engine
    from custom_components.pemus.p2p.media.facts import MediaFacts
    from custom_components.pemus.p2p.models import Kind
else:
    # Where `library` has put it on the path.
    from p2p import cli, engine
    from p2p.media.facts import MediaFacts
    from p2p.models import Kind


class Unread(NothingRead):
    """A media reader that knows nothing of any file."""

    async def read(self, path: str, kind: Kind, **_: Any) -> MediaFacts:
        """Tell nothing, at once."""
        return MediaFacts()

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing."""


if __name__ == "__main__":
    cast(Any, engine).MediaReader = Unread
    sys.exit(cli.main(sys.argv[sys.argv.index("run") :]))
