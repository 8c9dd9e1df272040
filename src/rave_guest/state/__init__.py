"""What this machine's services keep: sent to the host as one stream, put back from one."""
