"""`rave events`: what forges told a machine by webhooks, a file per verb."""
