"""`rave image`: what images are made of, a file per verb."""
