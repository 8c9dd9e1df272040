"""`rave vm forward`: a file per verb."""
