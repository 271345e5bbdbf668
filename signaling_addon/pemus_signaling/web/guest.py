"""The page that guests open: the same files for every room, so that opening or previewing a link tells nothing and uses nothing up.

A link is `{path}r/SLUG#SECRET`. What stands behind `#` stays in the browser. Names and files travel only between the guest
and the home. Whoever changes this page could read the secret, so a browser may run its own scripts alone, by their hashes.
"""

from __future__ import annotations

from dataclasses import dataclass
import gzip
from http import HTTPStatus
from mimetypes import guess_type
from pathlib import Path
import re
from typing import Final

from aiohttp import hdrs, web

from pemus_signaling.net.answers import failed
from pemus_signaling.rooms.slugs import read_slug

BUILT: Final = Path(__file__).parent / "static"
"""Where script/build-guest puts the page."""
PAGE: Final = "index.html"
WORKER: Final = "sw.js"
ASSETS: Final = "_"
"""The folder of files with a hash in their names."""

_IMMUTABLE: Final = "public, max-age=31536000, immutable"
_FRESH: Final = "no-cache"
_HOST: Final = re.compile(r"[A-Za-z0-9.-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_TYPES: Final = {".js": "text/javascript", ".svg": "image/svg+xml"}
"""Those that depend on the machine elsewhere."""
_COMPRESSED: Final = frozenset({".html", ".js", ".css", ".svg"})
_HEADERS: Final = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Robots-Tag": "noindex, nofollow",
}


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the page, as it is sent."""

    body: bytes
    gzipped: bytes | None
    content_type: str

    @classmethod
    def read(cls, path: Path) -> _File:
        """Read a file. Raises OSError."""
        body = path.read_bytes()
        is_compressed = path.suffix in _COMPRESSED
        kind = _TYPES.get(path.suffix) or guess_type(path.name)[0]
        return cls(
            body,
            gzip.compress(body, mtime=0) if is_compressed else None,
            kind or "application/octet-stream",
        )

    def answer(self, request: web.Request, headers: dict[str, str]) -> web.Response:
        """Return the answer to a request for it."""
        headers = _HEADERS | {hdrs.VARY: hdrs.ACCEPT_ENCODING} | headers
        body = self.body
        if self.gzipped and "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
            body = self.gzipped
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        is_text = self.content_type.startswith("text/")
        return web.Response(
            body=body,
            content_type=self.content_type,
            charset="utf-8" if is_text else None,
            headers=headers,
        )


class GuestPage:
    """Serves the built page."""

    def __init__(self, folder: Path | None = None) -> None:
        """Read the page in a folder, by default the one beside this file. Without a page there, it says so to guests."""
        self._files = _read(folder or BUILT)
        self._scope = ""

    @property
    def is_built(self) -> bool:
        """Whether there is a page."""
        return PAGE in self._files and WORKER in self._files

    def routes(self, prefix: str = "/") -> list[web.RouteDef]:
        """Return what to add to an application. `prefix` begins and ends with a slash."""
        self._scope = f"{prefix}r/"
        return [
            web.get(f"{prefix}r/{WORKER}", self._answer_worker),
            web.get(f"{prefix}r/{ASSETS}/{{name}}", self._answer_asset),
            web.get(f"{prefix}r/{{slug}}", self._answer_page),
        ]

    async def _answer_page(self, request: web.Request) -> web.Response:
        """Answer any slug that could be one: whether there is such a room is the page's question."""
        if read_slug(request.match_info["slug"]) is None:
            return failed(HTTPStatus.NOT_FOUND, "not_found", "There is no such page.")
        if not self.is_built:
            return web.Response(
                status=HTTPStatus.SERVICE_UNAVAILABLE,
                text="This signalling server does not have the page for guests. It was installed without it.\n",
                headers=_HEADERS | {hdrs.CACHE_CONTROL: "no-store"},
            )
        return self._files[PAGE].answer(
            request,
            {
                hdrs.CACHE_CONTROL: _FRESH,
                "Content-Security-Policy": _policy(request.host),
            },
        )

    async def _answer_worker(self, request: web.Request) -> web.Response:
        file = self._files.get(WORKER)
        if file is None:
            return failed(HTTPStatus.NOT_FOUND, "not_found", "There is no such file.")
        return file.answer(
            request,
            {
                hdrs.CACHE_CONTROL: _FRESH,
                "Service-Worker-Allowed": self._scope,
                # It answers with what pages hand it, and asks nobody itself.
                "Content-Security-Policy": "default-src 'none'",
            },
        )

    async def _answer_asset(self, request: web.Request) -> web.Response:
        file = self._files.get(f"{ASSETS}/{request.match_info['name']}")
        if file is None:
            return failed(HTTPStatus.NOT_FOUND, "not_found", "There is no such file.")
        return file.answer(request, {hdrs.CACHE_CONTROL: _IMMUTABLE})


def _read(folder: Path) -> dict[str, _File]:
    """Return the files of a built page by their path. Nothing that is asked for later reaches the disk."""
    paths = [folder / PAGE, folder / WORKER, *folder.glob(f"{ASSETS}/*")]
    return {
        path.relative_to(folder).as_posix(): _File.read(path)
        for path in paths
        if path.is_file()
    }


def _policy(host: str) -> str:
    """Return the Content-Security-Policy of the page at a host."""
    # Not every browser takes 'self' for WebSockets, too.
    socket = f" wss://{host}" if _HOST.fullmatch(host) else ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:;"
        f" connect-src 'self'{socket}; worker-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    )
