"""The signalling server: it introduces homes and guests to each other and never sees what they exchange.

- `__main__`, `settings`, `server`: the command line, what can be set, and how the parts are put together;
- `net`: one port for WebSockets and HTTP, who is at the other end, limits, and what a WebSocket is to the rest of the program;
- `identity`: PeMuS IDs, signed proofs, and sessions, which show that there was one;
- `peers`: PeerServer's protocol, and messages that wait;
- `tracker`: WebTorrent's tracker, on one node and on many;
- `rooms`: links for guests, their names, where they are kept, and the tokens of who comes;
- `turn`: coturn, and credentials for it;
- `web`: the page behind an invitation;
- `cluster`: one process alone, or many that act as one, through workers and a Redis;
- `discovery`, `health`, `log`, `metrics`: how Home Assistant finds it, and what keeps it up and shows how it does.
"""

__version__ = "0.1.0"
