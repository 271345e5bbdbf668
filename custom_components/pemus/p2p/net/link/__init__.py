"""The authenticated channel between two homes."""
