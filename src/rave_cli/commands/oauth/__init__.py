"""The verbs of `rave oauth`, a file for each."""
