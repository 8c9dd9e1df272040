"""`rave vm template`: a file per verb."""
