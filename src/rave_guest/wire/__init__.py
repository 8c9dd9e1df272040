"""Small clients of the protocols that the probe speaks: no package, no extra process."""
