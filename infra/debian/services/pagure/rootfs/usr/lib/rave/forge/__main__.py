"""Runs a part of the forge: `web` serves, `worker` does what takes longer, `hooks` is one of git's.

Usage: python3 -I /usr/lib/rave/forge web PORT
       python3 -I /usr/lib/rave/forge worker
       python3 -I /usr/lib/rave/forge hooks NAME
"""

import sys
from importlib import import_module

if __name__ == "__main__":
    import_module(f"rave_forge.{sys.argv[1]}").main(*sys.argv[2:])
