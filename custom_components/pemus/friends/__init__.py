"""Other homes: pairings, friends and their presence, and the local network."""
