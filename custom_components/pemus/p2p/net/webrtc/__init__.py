"""A WebRTC connection between two homes."""
