"""Where the services meet the world: HTTP, SQLite, NATS, metrics, logs, settings."""
