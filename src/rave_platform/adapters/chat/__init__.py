"""The chat bridge's sides to the world."""
