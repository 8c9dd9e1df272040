"""What an agent does with a task: which steps, how far it has come, and how much it may take."""
