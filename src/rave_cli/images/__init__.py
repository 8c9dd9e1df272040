"""Images: the Nix driver, the Debian closure and the image manifest."""
