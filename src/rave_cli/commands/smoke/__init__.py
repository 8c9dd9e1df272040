"""`rave smoke`: check a machine, sign what was found, verify it later; a file per verb."""
