"""Home Assistant's side and the engine meet in the engine's models, which need none of the engine's own libraries."""

import ast
from pathlib import Path

from custom_components.pemus import const

INTEGRATION = Path(const.__file__).parent
SHARED = "models"


def imported(file: Path) -> set[str]:
    """Return the engine's modules that a module imports."""
    names = {
        node.module.removeprefix("custom_components.pemus.")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module
    }
    return {
        name.removeprefix("p2p.") for name in names if name.partition(".")[0] == "p2p"
    }


def test_home_assistants_side_knows_only_the_models_of_the_engine() -> None:
    files = [
        file
        for file in INTEGRATION.rglob("*.py")
        if "p2p" not in file.relative_to(INTEGRATION).parts
    ]
    rooms = {name.partition(".")[0] for file in files for name in imported(file)}
    assert rooms == {SHARED}
