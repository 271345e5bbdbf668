"""The program that `MediaReader` starts: it loads the engine's package without making its surroundings importable.

Run as `python -I .../p2p/media/worker_main.py`, so that neither this folder nor the one above the engine is searched for
modules: a `select.py` or `types.py` there would shadow the standard library's.
"""

from __future__ import annotations

import importlib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
import sys


def run() -> None:
    """Load the package under its name and let its worker read files until there is nothing more to do."""
    root = Path(__file__).resolve().parents[1]
    spec = spec_from_file_location(
        "p2p", root / "__init__.py", submodule_search_locations=[str(root)]
    )
    assert spec is not None and spec.loader is not None
    package = module_from_spec(spec)
    sys.modules["p2p"] = package
    spec.loader.exec_module(package)
    importlib.import_module("p2p.media.worker").main()


if __name__ == "__main__":
    run()
