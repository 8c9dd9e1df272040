"""The platform's own services: a domain without I/O, what the services do with it, and adapters.

Runs in a guest of either base, from one source; knows nothing of the CLI.
"""
