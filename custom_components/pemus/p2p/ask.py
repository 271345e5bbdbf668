"""Asks a running engine, and says the answer as lines for people."""

from __future__ import annotations

import asyncio
from pathlib import Path
import shutil

import aiohttp

from .models import (
    ApiError,
    Home,
    Item,
    Listing,
    LocalFile,
    Node,
    SearchQuery,
    SearchResult,
    Status,
    TicketQuery,
)
from .models.codec import DecodeError, decode, encode
from .models.transfers import RemoteItem, Transfers, TransferState, TransferStatus

TIMEOUT = aiohttp.ClientTimeout(total=60)
POLL = 0.2
"""Seconds between two looks at a transfer that is waited for."""
HOUR = 3600

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


async def home(socket: Path) -> list[str]:
    """Return the id of the engine's home. Raises AskError."""
    return [decode(Home, await _request(socket, "GET", "home")).id]


async def ticket(socket: Path, item: str, receiver: str, hours: int) -> list[str]:
    """Return a ticket for an item of this home, as one line of JSON. Raises AskError."""
    query = TicketQuery(
        item=item.removeprefix("item/"), receiver=receiver, ttl=hours * HOUR
    )
    answer = await _request(socket, "POST", "tickets", body=encode(query))
    return [answer.decode()]


async def revoke(socket: Path, receiver: str, item: str | None) -> list[str]:
    """Make a home's ticket for an item, or all its tickets, worthless. Raises AskError."""
    path = f"tickets/{receiver}"
    if item is not None:
        path += f"/{item.removeprefix('item/')}"
    await _request(socket, "DELETE", path)
    return []


async def accept(socket: Path, payload: bytes) -> list[str]:
    """Give the engine another home's ticket; return the node of the item. Raises AskError."""
    item = decode(RemoteItem, await _request(socket, "POST", "remote", body=payload))
    return [_line(f"home/{item.owner}/{item.id}", item.title, item.owner_name)]


async def transfers(socket: Path) -> list[str]:
    """Return how far the items of other homes have arrived. Raises AskError."""
    return [_transfer(each) for each in (await _transfers(socket)).items]


async def fetch(socket: Path, payload: bytes, output: Path | None) -> list[str]:
    """Fetch the item of another home's ticket whole, and copy it to `output` if that is given. Raises AskError."""
    item = decode(RemoteItem, await _request(socket, "POST", "remote", body=payload))
    path = f"remote/{item.owner}/{item.id}"
    await _request(socket, "PUT", f"{path}/pin")
    while True:
        state = next(
            each
            for each in (await _transfers(socket)).items
            if (each.owner, each.item) == (item.owner, item.id)
        )
        if state.state is TransferState.COMPLETE:
            break
        if state.state in {TransferState.FULL, TransferState.EXPIRED}:
            raise AskError(state.message or f"{item.title}: {state.state}")
        await asyncio.sleep(POLL)
    if output is not None:
        file = decode(LocalFile, await _request(socket, "GET", f"{path}/file"))
        try:
            await asyncio.to_thread(shutil.copyfile, file.path, output)
        except OSError as err:
            raise AskError(f"{output} cannot be written: {err.strerror}") from err
    return [_transfer(state)]


async def _transfers(socket: Path) -> Transfers:
    return decode(Transfers, await _request(socket, "GET", "remote"))


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
        # A time-out is an OSError without words.
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
    return _line(f"item/{item.id}", item.title, item.artist)


def _transfer(transfer: TransferStatus) -> str:
    share = 100 * transfer.done / transfer.size if transfer.size else 100
    detail = f"{transfer.state}, {share:.0f} %, {transfer.download_rate / 1e6:.1f} MB/s"
    return _line(f"home/{transfer.owner}/{transfer.item}", transfer.title, detail)


def _line(node: str, title: str, detail: str | None) -> str:
    text = f"{title} - {detail}" if detail else title
    # Names come from files: what would steer a terminal is left out.
    return f"{node}  {''.join(char for char in text if char.isprintable())}"
