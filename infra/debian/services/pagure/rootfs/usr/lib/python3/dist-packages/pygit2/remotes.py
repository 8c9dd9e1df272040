"""Where Pagure, of a newer Debian, expects what pygit2 of this one has in `pygit2.remote`."""

from pygit2.remote import RemoteCollection

__all__ = ["RemoteCollection"]
