"""Files that arrive from other homes: what to fetch next, the cache, and the sources that deliver."""
