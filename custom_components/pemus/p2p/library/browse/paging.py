"""Long lists as pages, and lists of very many pages as pages of pages."""

from __future__ import annotations

from ...core.errors import NotFound
from ...models import PAGE_SIZE, Node, NodeKind
from .address import Span, page_segment
from .series import Series


def children(of: Node, contents: Series) -> list[Node]:
    """Return what lies in a node: its contents, or pages of them."""
    return _divided(of, contents, Span(0, contents.count()))


def turned_to(
    of: Node, contents: Series, page: Span
) -> tuple[list[Node], Node, list[Node]]:
    """Return the pages around a page, from the outermost on, the page, and what lies in it. Raises NotFound."""
    # Going to the page first, and counting from there, takes one way through the list instead of two.
    is_last = page.count <= PAGE_SIZE
    found = contents.part(page.offset, page.count if is_last else 1)
    if not found:
        raise NotFound("the list has no such page any more")
    total = contents.count()
    around = []
    size = page.count * PAGE_SIZE
    while size < total:
        around.append(Span(page.offset // size * size, size))
        size *= PAGE_SIZE
    *outer, node = _pages(of, contents, [*reversed(around), page])
    if not is_last:
        part = Span(page.offset, min(page.count, total - page.offset))
        found = _divided(of, contents, part)
    return outer, node, found


def _divided(of: Node, contents: Series, part: Span) -> list[Node]:
    if part.count <= PAGE_SIZE:
        return contents.part(part.offset, part.count)
    size = PAGE_SIZE
    while part.count > size * PAGE_SIZE:
        size *= PAGE_SIZE
    starts = range(part.offset, part.offset + part.count, size)
    return _pages(of, contents, [Span(start, size) for start in starts])


def _pages(of: Node, contents: Series, pages: list[Span]) -> list[Node]:
    total = contents.count()
    ends = [min(page.offset + page.count, total) - 1 for page in pages]
    places = sorted({page.offset for page in pages} | set(ends))
    titles = dict(zip(places, contents.titles(places), strict=True))
    return [
        Node(
            id=f"{of.id}/{page_segment(page)}",
            kind=NodeKind.PAGE,
            title=_title(titles[page.offset], titles[end]),
            detail=f"{page.offset + 1}–{end + 1}",
            media=of.media,
            count=end + 1 - page.offset,
            available=of.available,
        )
        for page, end in zip(pages, ends, strict=True)
    ]


def _title(first: str | None, last: str | None) -> str | None:
    """Return what a page is called: what it begins and ends with. What has no name comes last."""
    if first is None or first == last:
        return first
    return f"{first} …" if last is None else f"{first} … {last}"
