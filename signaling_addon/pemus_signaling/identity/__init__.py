"""PeMuS IDs, and how a client proves that one is its own."""
