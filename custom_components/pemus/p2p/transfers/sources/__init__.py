"""The sources that deliver remote items: torrents, and links to their owners."""
