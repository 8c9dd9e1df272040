"""Runs a program of this set, which sees the set and Python's own library, and nothing else.

Usage: python3 -IS /usr/lib/rave/sets/SERVICE MODULE[:FUNCTION] [ARGUMENT...]

-I leaves out the environment and the user's packages, -S the system's. Python puts the directory
that it is given first on its path.
"""

import sys


def main() -> None:
    """Run a module as `python3 -m` does, or call a function as an entry point's program does."""
    module, _, function = sys.argv.pop(1).partition(":")
    sys.argv[0] = module
    if function:
        from importlib import import_module

        sys.exit(getattr(import_module(module), function)())
    from runpy import run_module

    run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
