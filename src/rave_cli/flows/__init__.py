"""The journeys that exist once: get an image, get a running machine, secure it, prove it."""
