"""The engine's process: its environment, its life, its log, and what is asked of it."""
