"""What Nix holds for images that are no more: given back in a store that is rave's alone."""

from __future__ import annotations

from rave_cli import nixstore, process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import rootless

COMMAND = "nix-collect-garbage"
# Seconds; a store of some GiB takes one or two.
TIMEOUT = 600.0


def collect() -> str:
    """Delete what no image that is kept needs, and return what Nix says of it.

    Nothing, where the store is the host's: others have things there, and its owner cleans it.

    Raises:
        RaveError: HOST if Nix cannot do it.
    """
    if nixstore.directory() == nixstore.HOST_STORE or not nixstore.directory().exists():
        return ""
    argv = [*rootless.enter(), process.require("nix-store"), "--gc"]
    done = process.run(argv, env=nixstore.environment(), timeout=TIMEOUT)
    if not done.ok:
        raise RaveError(
            f"Nix could not clean {nixstore.directory()}: {' '.join(done.tail(1))}",
            hint="rave doctor",
            exit_code=ExitCode.HOST,
        )
    said = done.text.strip().splitlines()
    return said[-1] if said else ""
