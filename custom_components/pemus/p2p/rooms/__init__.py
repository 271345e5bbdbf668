"""Rooms: guests, who open a link in a browser, get what the user chose to share, one after the other if there are many."""
