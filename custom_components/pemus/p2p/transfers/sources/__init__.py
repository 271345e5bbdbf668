"""Where the bytes of a transfer come from."""
