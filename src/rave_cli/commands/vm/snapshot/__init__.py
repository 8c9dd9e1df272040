"""`rave vm snapshot`: a file per verb."""
