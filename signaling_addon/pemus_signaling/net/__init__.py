"""The front door: one port, heads of requests, WebSockets, addresses, and limits for each client."""
