"""The guest as the host sees it: its reports, its readiness, SSH to it."""
