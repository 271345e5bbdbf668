"""WebTorrent's tracker: swarms, and who meets whom."""
