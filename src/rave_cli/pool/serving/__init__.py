"""Serving: what turns store, queue and agents until a signal ends it."""
