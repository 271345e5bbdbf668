"""The signalling server: it introduces homes and guests to each other and never sees what they exchange.

- `__main__`, `settings`, `server`, `workers`: the command line, what can be set, and how the parts are put together;
- `front`, `heads`, `addresses`, `websocket`, `sockets`: one port for WebSockets and HTTP, who is at the other end, and what a
  WebSocket is to the rest of the program;
- `identity`, `proofs`, `sessions`, `tokens`, `base64url`: PeMuS IDs, signed proofs, what shows that there was one, and how
  all these are written;
- `peers`, `waiting`: PeerServer's protocol;
- `tracker`, `announces`, `swarms`, `matching`, `homes`: WebTorrent's tracker, on one node and on many;
- `rooms`, `room_store`, `slugs`, `answers`: links for guests;
- `turn`, `coturn`, `interfaces`: coturn, and credentials for it;
- `limits`, `metrics`, `health`, `log`: what keeps it up and shows how it does;
- `discovery`: how Home Assistant finds it;
- `cluster`, `redis_cluster`, `redis_rooms`: one process alone, or many that act as one.
"""

__version__ = "0.1.0"
