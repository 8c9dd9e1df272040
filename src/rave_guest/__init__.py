"""Code that runs inside the guest: stdlib-only Python, never imported by the CLI."""
