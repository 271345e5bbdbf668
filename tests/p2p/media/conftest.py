"""A reader for the tests that only look at files: starting its child takes longer than reading any of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from p2p.media.reader import MediaReader


def children() -> set[int]:
    """Return the ids of this process's children."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for each in tasks for pid in each.read_text().split()}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_reader() -> AsyncIterator[MediaReader]:
    """One reader for all tests that do it no harm."""
    reader = MediaReader()
    await reader.start()
    yield reader
    await reader.stop()


@pytest.fixture
def no_child_left() -> Iterator[None]:
    """Fail the test if it leaves a process behind."""
    before = children()
    yield
    assert children() == before
