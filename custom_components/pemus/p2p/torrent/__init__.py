"""Everything about BitTorrent: the session, seeds, hashes, and the tracker on loopback."""
