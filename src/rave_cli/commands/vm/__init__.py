"""`rave vm`: images and machines, a file per verb."""
