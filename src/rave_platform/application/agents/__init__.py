"""What an agent does: take tasks, carry their steps out, obey decisions, give signs of life."""
