"""Secrets in the guest: decrypted, put in force, kept for the next boot, proven to be taken."""
