"""The PeMuS engine: the process that owns the library, and later the swarm, the links to friends and the rooms.

It runs in its own process and knows nothing of Home Assistant: imports inside this package are relative, and nothing
above this folder is ever imported. `models` is the one module that both sides share.
"""
