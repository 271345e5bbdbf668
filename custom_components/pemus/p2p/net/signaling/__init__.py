"""A signalling server, from this home's side."""
