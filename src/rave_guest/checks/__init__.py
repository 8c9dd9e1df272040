"""What the probe can ask, one module per subject. A function takes its arguments and the system."""
