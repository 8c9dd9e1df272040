"""Builds of GitLab's: what its runner asks of a custom executor, done in a machine of a job."""
