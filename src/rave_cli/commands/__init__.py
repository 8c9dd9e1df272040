"""The verbs of the CLI, one file per noun: parse, call, show."""
