"""What the services decide: pure functions over frozen values."""
