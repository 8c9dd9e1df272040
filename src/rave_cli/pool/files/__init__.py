"""Files of jobs: what they are given, and what they leave."""
