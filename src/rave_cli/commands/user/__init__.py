"""`rave user`: who may sign in to a machine's services, a file per verb."""
