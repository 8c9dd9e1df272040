"""Agents: what takes jobs, one at a time, and runs each in a machine of its own."""
