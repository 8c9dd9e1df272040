"""The dashboard of a pool, `rave pool top`: what is seen, what asks for it, and what is drawn."""
