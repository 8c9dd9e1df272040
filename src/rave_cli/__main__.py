"""`python -m rave_cli` is `rave`."""

from rave_cli.app import main

if __name__ == "__main__":
    main()
