"""Asks a running engine, and returns the answer as lines for people."""

from __future__ import annotations

from pathlib import Path

import aiohttp

from .models import ApiError, Item, Listing, Node, SearchQuery, SearchResult, Status
from .models.codec import DecodeError, decode, encode
from .models.items import ItemRef
from .models.pemus_id import grouped
from .models.transfers import Transfers, TransferStatus

TIMEOUT = aiohttp.ClientTimeout(total=60)

_MIB = 1024 * 1024


class AskError(Exception):
    """There was no answer, or the engine refused. The message is for the user."""


async def status(socket: Path) -> list[str]:
    """Return the state of the engine. Raises AskError."""
    state = decode(Status, await _request(socket, "GET", "status"))
    progress = "" if state.progress is None else f" ({state.progress:.0f} %)"
    missing = [name for name, version in state.capabilities.items() if version is None]
    lines = [
        f"PeMuS engine {state.version}, process {state.pid}, {state.rss / _MIB:.0f} MiB",
        f"library: {state.scan_state}{progress}, {_counts(state)}",
    ]
    if state.peers is not None:
        lines.append(f"home: {grouped(state.peers.id)}")
    lines += [
        f"share {share.id}: {'available' if share.available else 'not available'}"
        for share in state.shares
    ]
    lines += [
        f"problem: {problem.key} {problem.placeholders}" for problem in state.problems
    ]
    if missing:
        lines.append(f"missing libraries: {', '.join(missing)}")
    return lines


async def browse(socket: Path, node: str) -> list[str]:
    """Return what lies in a node of the library, each with its id. Raises AskError."""
    body = await _request(socket, "GET", "browse", query={"node": node})
    return [_node(child) for child in decode(Listing, body).children]


async def search(socket: Path, text: str) -> list[str]:
    """Return what matches a text. Raises AskError."""
    query = encode(SearchQuery(text=text))
    found = decode(SearchResult, await _request(socket, "POST", "search", body=query))
    return [_node(node) for node in found.nodes] + [_item(item) for item in found.items]


async def transfers(socket: Path) -> list[str]:
    """Return how far friends' items have arrived. Raises AskError."""
    body = await _request(socket, "GET", "transfers")
    return [_transfer(each) for each in decode(Transfers, body).items]


async def _request(
    socket: Path,
    method: str,
    path: str,
    *,
    query: dict[str, str] | None = None,
    body: bytes | None = None,
) -> bytes:
    connector = aiohttp.UnixConnector(str(socket))
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as session,
            session.request(
                method, f"http://engine/v1/{path}", params=query, data=body
            ) as response,
        ):
            answer = await response.read()
            if response.status >= 400:
                raise AskError(decode(ApiError, answer).message)
            return answer
    except (aiohttp.ClientError, OSError) as err:
        # A time-out is an OSError without a message.
        reason = str(err) or "it does not answer"
        raise AskError(f"no engine at {socket}: {reason}") from err
    except DecodeError as err:
        raise AskError(f"what answers at {socket} is no engine: {err}") from err


def _counts(state: Status) -> str:
    counts = state.counts
    return (
        f"{counts.video} videos, {counts.music} songs, {counts.photo} photos,"
        f" {counts.size / _MIB:.0f} MiB"
    )


def _node(node: Node) -> str:
    return _line(node.id, node.title or node.kind, node.detail)


def _item(item: Item) -> str:
    return _line(item.ref.node, item.title, item.artist)


def _transfer(transfer: TransferStatus) -> str:
    share = 100 * transfer.done / transfer.size if transfer.size else 100
    detail = f"{transfer.state}, {share:.0f} %, {transfer.download_rate / 1e6:.1f} MB/s"
    node = ItemRef(transfer.owner, transfer.item).node
    return _line(node, transfer.title, detail)


def _line(node: str, title: str, detail: str | None) -> str:
    text = f"{title} - {detail}" if detail else title
    # Names come from files. Control characters, which a terminal obeys, are left out.
    return f"{node}  {''.join(char for char in text if char.isprintable())}"
