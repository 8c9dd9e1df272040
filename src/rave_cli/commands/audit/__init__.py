"""`rave audit`: who did what through rave on this host, a file per verb."""
