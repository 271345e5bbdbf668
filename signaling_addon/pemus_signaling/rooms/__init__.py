"""Rooms: a home's links for guests, and the tokens of those who come."""
