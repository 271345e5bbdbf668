"""Errors of libtorrent, apart from it so that they can be imported where it is not installed."""


class SessionError(Exception):
    """The session cannot run, or could not do what was asked. The message says why."""
