"""A home with a library, and a friend who keeps a copy of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .friends import Friend, Owner


@pytest.fixture
async def owner(tmp_path: Path) -> AsyncIterator[Owner]:
    (tmp_path / "owner").mkdir()
    made = Owner(tmp_path / "owner")
    yield made
    made.store.close()


@pytest.fixture
async def friend(tmp_path: Path) -> AsyncIterator[Friend]:
    made = Friend(tmp_path / "friend")
    await made.library.open()
    yield made
    await made.library.close()
