"""Config, subentry and options flows."""
