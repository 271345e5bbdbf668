"""What `friends.py` and `friends_home.py` are told: both are given the same, and each does its own parts."""

from __future__ import annotations

import argparse
from pathlib import Path
import sys

IN_THE_LAB: tuple[str, ...] = ("pair", "linked", "play", "shaped", "first_byte")
"""Parts that need homes behind routers."""
ON_ONE_MACHINE: tuple[str, ...] = ("list", "memory")
IN_HOME_ASSISTANT: tuple[str, ...] = ("loop_lag",)
PARTS = IN_THE_LAB + ON_ONE_MACHINE + IN_HOME_ASSISTANT


def options(document: str) -> argparse.Namespace:
    """Return `json`, `rounds` and `only` from the command line."""
    parser = argparse.ArgumentParser(description=document.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    return parser.parse_args()


def show(result: dict[str, object]) -> None:
    """Print figures as a table."""
    for name, value in result.items():
        rows = value.items() if isinstance(value, dict) else (("", value),)
        for part, figure in rows:
            label = f"{name}.{part}".rstrip(".")
            print(f"    {label:44} {figure:10.2f}", file=sys.stderr)
