"""Checks of a running machine: phases, probes, runner and reports."""
