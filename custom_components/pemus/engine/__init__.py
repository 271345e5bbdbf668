"""The engine's process, its environment, its log, and the client of its API."""
