"""Everything about BitTorrent: the session, seeds, hashes, the tracker on loopback."""
