"""The queue: who has which job now, and the redis-server behind that."""
