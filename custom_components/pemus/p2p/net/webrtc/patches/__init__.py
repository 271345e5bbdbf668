"""What aiortc and aioice need to be helped with."""
