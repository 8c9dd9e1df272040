"""`rave secrets`: the secrets file and its way into a machine, a file per verb."""
