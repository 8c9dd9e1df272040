"""Verbs of `rave pool`."""
