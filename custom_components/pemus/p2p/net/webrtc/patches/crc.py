"""Makes the package `crc32c` available under the name `google_crc32c`, which aiortc imports.

`google_crc32c` has no wheel for musl (https://github.com/googleapis/python-crc32c/issues/316). Without a compiler it
falls back to pure Python, which makes a data channel five times slower (see requirements/engine-overrides.txt).
"""

from __future__ import annotations

import sys
from types import ModuleType


def lend() -> None:
    """Let `import google_crc32c` find the one function that aiortc uses. Raises ImportError without `crc32c`."""
    from crc32c import crc32c

    module = ModuleType("google_crc32c")
    module.value = crc32c  # type: ignore[attr-defined]
    sys.modules.setdefault("google_crc32c", module)
