"""Code that runs inside the guest: stdlib-only Python. The CLI reads its declarations of checks."""
