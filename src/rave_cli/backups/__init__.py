"""Backups of machines: where they are, what keeps them, their key, and for how long."""
