"""SOPS/age secrets: the sops wrapper, policy, validation and installation."""
