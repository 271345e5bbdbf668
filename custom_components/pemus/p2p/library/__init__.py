"""The library: what lies in the shared folders, kept in an index that survives restarts, and found by browsing and searching."""

from .library import Library

__all__ = ["Library"]
