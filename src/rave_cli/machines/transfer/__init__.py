"""Copies between this host and a running machine."""
