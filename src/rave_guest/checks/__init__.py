"""What the probe can ask, one module per subject. A function takes the check and the world."""
