"""The operator's SOPS file: make, check, change it, and install what a machine needs of it."""
