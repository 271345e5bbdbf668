"""What every room of the engine uses: errors, logging, encoding, threads, bounds, sandbox."""
