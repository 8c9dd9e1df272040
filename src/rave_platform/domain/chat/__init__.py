"""What people say to the platform in a chat room, and what it answers."""
