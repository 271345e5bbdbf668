"""One process alone, or many that act as one."""
