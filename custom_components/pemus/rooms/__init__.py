"""Rooms: what guests get who open a link in a browser."""
