"""Jobs: what is asked for, what becomes of it, and where that is kept."""
