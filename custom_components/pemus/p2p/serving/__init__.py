"""Answers what friends ask for."""
