"""A trial: a pool that is measured, and killed, of which nothing is left."""
