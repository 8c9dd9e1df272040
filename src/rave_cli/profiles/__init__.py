"""The catalog of profiles, services and secrets, as frozen values."""
