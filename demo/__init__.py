"""What a newcomer meets first: a library of pictures, songs and films made here, and a Home Assistant that shows them."""
