"""Starts the engine: `python -I path/to/p2p/__main__.py --help`.

The package is loaded by its own spec under the name `p2p`. Neither this folder nor its parent gets on the module search
path, where the modules of the integration (`select.py`) would shadow those of the standard library.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
import sys

PACKAGE = "p2p"


def load() -> None:
    """Make this folder importable as the package `p2p`."""
    folder = Path(__file__).resolve().parent
    # Without -I, Python puts the script's folder first.
    sys.path[:] = [entry for entry in sys.path if entry != str(folder)]
    spec = spec_from_file_location(
        PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"the engine's package is not in {folder}")
    package = module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    load()
    sys.exit(import_module(f"{PACKAGE}.cli").main())
