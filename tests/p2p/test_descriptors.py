"""The engine may open as many files as the system lets it, and keeps some for everything that is not shared."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .conftest import ENGINE_PATH


def shared_under(soft: int, hard: int) -> list[int]:
    """Return the limit, and how many files may be shared, in a process that began with these limits."""
    program = f"""
import resource, sys
sys.path.insert(0, {str(ENGINE_PATH)!r})
from p2p.core import descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
descriptors.raise_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], descriptors.for_sharing())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return [int(each) for each in done.stdout.split()]


@pytest.mark.parametrize(
    ("soft", "hard", "shared"), [(256, 4096, 3584), (1024, 1024, 512), (64, 200, 100)]
)
def test_the_limit_is_raised_and_some_are_kept(
    soft: int, hard: int, shared: int
) -> None:
    assert shared_under(soft, hard) == [hard, shared]
