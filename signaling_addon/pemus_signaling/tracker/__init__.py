"""The WebTorrent tracker: swarms, and offers between their peers."""
