"""Homes that share torrents, and others that fetch them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .owned import Fetcher, Owner, fetching, owning


@pytest.fixture
async def owner(tmp_path: Path) -> AsyncIterator[Owner]:
    async with owning(tmp_path) as made:
        yield made


@pytest.fixture
async def fetcher(tmp_path: Path) -> AsyncIterator[Fetcher]:
    async with fetching(tmp_path) as made:
        yield made
