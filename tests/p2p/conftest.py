"""What the tests of the engine need: the engine as the top-level package `p2p`, without Home Assistant."""

from __future__ import annotations

from pathlib import Path
import sys

import pytest

ENGINE_PATH = Path(__file__).parents[2] / ".venvs" / "engine-path"

if str(ENGINE_PATH) not in sys.path:
    assert (ENGINE_PATH / "p2p").is_dir(), "run script/setup first"
    sys.path.insert(0, str(ENGINE_PATH))


@pytest.fixture(autouse=True)
def custom_integrations_found() -> None:
    """Stand in for the fixture of the integration's tests: there is no Home Assistant here."""
