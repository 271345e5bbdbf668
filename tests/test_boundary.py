"""Home Assistant's side and the engine meet in few modules, none of which needs the engine's own libraries."""

import ast
from pathlib import Path

from custom_components.pemus import const

INTEGRATION = Path(const.__file__).parent
SHARED = {
    "codec",
    "models",
    "peers.facts",
    "peers.identity",
    "peers.signaling",
    "swarm.remote",
    "version",
}


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


def test_home_assistants_side_knows_these_modules_of_the_engine_only() -> None:
    files = [*INTEGRATION.glob("*.py"), *INTEGRATION.glob("stream/*.py")]
    assert set[str]().union(*map(imported, files)) == SHARED


def test_the_documents_name_them() -> None:
    text = (INTEGRATION.parents[1] / "docs" / "architecture.md").read_text("utf-8")
    for module in SHARED - {"version"}:
        assert f"`{module.replace('.', '/')}.py`" in text, module
