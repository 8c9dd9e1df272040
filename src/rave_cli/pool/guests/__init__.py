"""Guests: what machines may ask of the pool that it was lent to, over a port of their own."""
