"""The PeMuS engine: the process that owns the library, the torrents, and the links to friends.

It runs in its own process and knows nothing of Home Assistant: imports inside this package are relative, and nothing
above this folder is ever imported. `models` is all that both sides share. The rooms and their
direction are drawn in `docs/architecture.md`.
"""
