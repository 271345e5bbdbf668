"""The signalling server. It introduces homes and guests to each other, and never sees what they exchange.

- `__main__`, `settings`, `server`: the command line, the settings, and the composition of the parts
- `net`: one port for WebSockets and HTTP, addresses, limits, answers of the REST API
- `identity`: PeMuS IDs, proofs of identity, sessions
- `peers`: PeerServer's protocol, waiting messages
- `tracker`: the WebTorrent tracker, on one node or several
- `rooms`: links for guests, their slugs, stores and tokens
- `turn`: coturn and its credentials
- `web`: the page of an invitation link
- `cluster`: one process, or several that act as one through workers and Redis
- `discovery`, `health`, `log`, `metrics`: for Home Assistant and for operation
"""

__version__ = "0.1.0"
