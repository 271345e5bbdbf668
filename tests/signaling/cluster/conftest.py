"""What tests of a cluster share."""

from __future__ import annotations

import pytest

from pemus_signaling.cluster import names, shard, store


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notice within a tenth of a second what takes a second otherwise."""
    monkeypatch.setattr(shard, "HEARTBEAT_INTERVAL", 0.1)
    monkeypatch.setattr(shard, "RETRY_DELAY", 0.05)
    monkeypatch.setattr(names, "RETRY_DELAY", 0.05)
    monkeypatch.setattr(store, "NODE_LIFE_MS", 1500)
