"""Asking: what commands want to know of jobs and of whoever serves them."""
