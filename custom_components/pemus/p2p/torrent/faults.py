"""What goes wrong with libtorrent, for those who have to be there without it, too."""


class SessionError(Exception):
    """The session cannot run, or did not do what it was asked to. The message says why."""
