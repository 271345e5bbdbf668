"""Other homes, from the first request to the friend: pairings, presence, and the local network."""
