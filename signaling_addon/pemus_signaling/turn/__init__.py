"""TURN: its credentials, and coturn as a child process."""
