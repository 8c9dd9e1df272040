"""The pool's API: REST and streams of events, on a socket of this host and, if wanted, over TLS."""
