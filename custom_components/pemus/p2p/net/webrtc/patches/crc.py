"""Lends the package `crc32c` the name of `google_crc32c`, which aiortc imports.

The other one has no wheel for musl, where its source becomes pure Python without a compiler: the data channel would be
five times slower (see requirements/engine-overrides.txt).
"""

from __future__ import annotations

import sys
from types import ModuleType


def lend() -> None:
    """Have `import google_crc32c` give what aiortc uses of it. Raises ImportError without `crc32c`."""
    from crc32c import crc32c

    module = ModuleType("google_crc32c")
    module.value = crc32c  # type: ignore[attr-defined]
    sys.modules.setdefault("google_crc32c", module)
