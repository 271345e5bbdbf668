"""Homes that both users agreed to: pairing, presence, and what is known of them."""
