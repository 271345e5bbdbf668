"""Node ids, taken apart. Whatever an id says, it is only ever compared with what the index knows."""

from __future__ import annotations

from dataclasses import dataclass
import re

from ...core.errors import BadRequest
from ...models import PAGE_SIZE
from ..items import ITEM
from .scope import ALL

MAX_LENGTH = 256
"""Characters of a node id. The longest that is ever made has about 60."""

_PREFIXES = (ALL, ITEM)
"""First segments that are no places of their own."""
_VALID = re.compile(
    r"(?P<path>[a-z0-9_-]+(?:/[a-z0-9_-]+){0,7})(?:/~(?P<offset>[0-9]{1,12})-(?P<count>[0-9]{1,12}))?"
)


class BadNode(BadRequest):
    """What was asked for is no node id."""


@dataclass(frozen=True, slots=True)
class Span:
    """The part of a list that a PAGE stands for. The last one of a list may be longer than what is left."""

    offset: int
    count: int


@dataclass(frozen=True, slots=True)
class Address:
    """A node id."""

    segments: tuple[str, ...]
    """One for each step down from the root."""
    page: Span | None


def parse(node_id: str) -> Address:
    """Return the parts of a node id. Raises BadNode."""
    if not node_id:
        return Address((), None)
    found = _VALID.fullmatch(node_id) if len(node_id) <= MAX_LENGTH else None
    if found is None:
        raise BadNode("that is no place in the library")
    page = None
    if found["offset"] is not None:
        page = Span(int(found["offset"]), int(found["count"]))
        if not _is_page(page) or page_segment(page) != node_id.rpartition("/")[2]:
            raise BadNode("that is no page of a list")
    segments = found["path"].split("/")
    if segments[0] in _PREFIXES and len(segments) > 1:
        segments[:2] = ["/".join(segments[:2])]
    return Address(tuple(segments), page)


def page_segment(page: Span) -> str:
    """Return the segment of a node id that names a page."""
    return f"~{page.offset}-{page.count}"


def _is_page(page: Span) -> bool:
    """Tell whether a list could be divided so: into pages of PAGE_SIZE, and these into pages of PAGE_SIZE pages."""
    size = PAGE_SIZE
    while size < page.count:
        size *= PAGE_SIZE
    return size == page.count and page.offset % size == 0
