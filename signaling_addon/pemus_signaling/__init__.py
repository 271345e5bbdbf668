"""The signalling server: it introduces homes and guests to each other and never sees what they exchange.

- `__main__`, `settings`, `server`: the command line, what can be set, and how the parts are put together;
- `front`, `sockets`: one port for WebSockets and HTTP, and what a WebSocket is to the rest of the program;
- `identity`, `tokens`: PeMuS IDs and signed proofs;
- `peers`: PeerServer's protocol; `tracker`, `matching`: WebTorrent's tracker; `rooms`, `slugs`: links for guests;
- `turn`: coturn, and credentials for it;
- `limits`, `metrics`, `log`: what keeps it up and shows how it does;
- `cluster`, `redis_cluster`: one process alone, or many that act as one.
"""

__version__ = "0.1.0"
