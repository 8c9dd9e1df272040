"""The rights of root for the Debian base's builder, for whoever is not root: a user namespace.

A guest's files belong to many users. In a namespace (user_namespaces(7)) the caller is root and
owns a range of further ids, which subuid(5) gives them.
Docs: docs/adr/0021-the-rights-of-a-build.md.
"""

from __future__ import annotations

import getpass
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import process
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Sequence

PROBE_TIMEOUT = 20.0
REMOVE_TIMEOUT = 300.0

_NAMESPACE = ("unshare", "--user", "--map-root-user", "--map-auto")
# Nothing less tells: a namespace can be had on some hosts that then allow nothing in it.
_PROBE = (
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--",
    "mount",
    "-t",
    "proc",
    "proc",
    "/proc",
)

# Who forbids namespaces to users, and the value that says so (Debian's kernel, Ubuntu's, Linux).
SWITCHES = (
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ("user.max_user_namespaces", "0", "10000"),
)
AS_ROOT = "sudo -i   (root builds it from a checkout of root's own)"


def enter() -> tuple[str, ...]:
    """Return the argv prefix under which a program has root's rights over the caller's files."""
    return () if os.getuid() == 0 else (*_NAMESPACE, "--")


def require() -> None:
    """Make sure that the builder would get its rights here, before anything is downloaded for it.

    Raises:
        RaveError: HOST, with the command for an administrator.
    """
    if os.getuid() == 0:
        return
    process.require("newuidmap")
    done = process.run([*_NAMESPACE, *_PROBE], timeout=PROBE_TIMEOUT)
    if not done.ok:
        raise fault(done.tail(4))


def fault(said: Sequence[str], kernel: Path = Path("/proc/sys")) -> RaveError:
    """Return the error of a host that gives its users no namespace.

    Args:
        said: unshare's words.
        kernel: where the kernel's settings are read.
    """
    text = "\n".join(said)
    message = "the Debian base is built in a user namespace, and this host gives this user none"
    hint = AS_ROOT
    # util-linux says "failed to find subid", newuidmap "not allowed".
    if "subuid" in text or "subgid" in text or "not allowed" in text:
        message = "the Debian base is built in a user namespace, and /etc/subuid or /etc/subgid"
        message += " gives this user no ids for it"
        hint = f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {_name()}"
    else:
        for name, forbids, allows in SWITCHES:
            if _setting(kernel, name) == forbids:
                message += f" ({name} is {forbids})"
                hint = f"sudo sysctl -w {name}={allows}   (or {AS_ROOT})"
                break
    return RaveError(message, hint=hint, exit_code=ExitCode.HOST, detail=tuple(said))


def remove(folder: Path) -> None:
    """Remove a directory with all it holds, what an interrupted builder left there included."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists() and os.getuid() != 0:
        process.run([*enter(), "rm", "-rf", "--", folder], timeout=REMOVE_TIMEOUT)


def _setting(kernel: Path, name: str) -> str:
    try:
        return (kernel / name.replace(".", "/")).read_text().strip()
    except OSError:
        return ""


def _name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
