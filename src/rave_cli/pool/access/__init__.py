"""Access: what commands ask of a pool, of their own on this host or of another over its API."""
