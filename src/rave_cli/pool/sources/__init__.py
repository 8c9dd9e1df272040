"""Sources: forges whose pushes and merge requests become jobs, each once."""
