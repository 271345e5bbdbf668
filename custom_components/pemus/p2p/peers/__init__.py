"""Other homes: who this home is, how it finds and knows others, and the links to them.

Nothing here loads aiortc but `rtc`; the engine goes on without it where it is missing.
"""
