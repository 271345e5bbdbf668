"""A library over the wire: what a home tells of its items, and the copy that another home keeps."""
