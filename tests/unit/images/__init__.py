"""Unit tests of rave_cli.images and of the image builders; Nix and apt are fakes."""
