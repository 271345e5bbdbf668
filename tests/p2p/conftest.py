"""What the tests of the engine need: the engine as the top-level package `p2p`, without Home Assistant."""

from __future__ import annotations

from collections.abc import Generator
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[
    None, pytest.TestReport, pytest.TestReport
]:
    """Keep file names that are no UTF-8 readable in what was logged: pytest's processes cannot tell each other of them."""
    report = yield
    report.sections = [
        (title, text.encode(errors="backslashreplace").decode())
        for title, text in report.sections
    ]
    return report
