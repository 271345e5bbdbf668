"""Home Assistant finds custom integrations in this package."""
