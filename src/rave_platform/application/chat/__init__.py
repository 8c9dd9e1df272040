"""What the chat bridge does: hear, obey, speak, and follow what becomes of tasks."""
