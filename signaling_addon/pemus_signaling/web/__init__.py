"""Pages that a browser gets."""
