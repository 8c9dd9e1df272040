"""What Nix's failures mean: from its words, and its builder's, to an error with a way out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Sequence

SHOWN_LINES = 20

# Debian packages of the tools that infra/debian/builders/start asks for, where names differ.
BUILDER_PACKAGES = {"chroot": "coreutils", "unshare": "util-linux"}


def explain(errors: Sequence[str], log: Sequence[str], base: str, what: str) -> RaveError:
    """Return the error that Nix's messages and the end of a build's log stand for.

    Args:
        errors: what Nix said.
        log: last lines of the builder.
        base: which base was to be built.
        what: the installable.
    """
    errors = [line for line in errors if "untrusted flake configuration" not in line]
    said, everything = "\n".join(errors), "\n".join([*errors, *log])
    for pattern, make in _FAULTS:
        match = re.search(pattern, everything, re.IGNORECASE)
        if match:
            return make(match, base, what, tuple(errors[-4:]))
    found = re.search(r"nix log (/\S+\.drv)|builder for '(\S+\.drv)' failed", said)
    hint = f"nix log {found[1] or found[2]}" if found else f"nix build --no-link -L '{what}'"
    return RaveError(
        f"building {what} failed", hint=hint, exit_code=ExitCode.BUILD,
        detail=(tuple(log) or tuple(errors))[-SHOWN_LINES:],
    )  # fmt: skip


def _full(_match: re.Match[str], _base: str, _what: str, errors: tuple[str, ...]) -> RaveError:
    return RaveError(
        "no space left on this host's disk while building",
        hint="df -h /nix ~/.cache; nix-collect-garbage frees what no image needs any more",
        exit_code=ExitCode.HOST,
        detail=errors,
    )


def _no_store(_match: re.Match[str], _base: str, _what: str, errors: tuple[str, ...]) -> RaveError:
    return RaveError(
        "the Nix store cannot be written by this user, and no Nix daemon runs",
        hint="rave vm build-image --base debian   (it is built in a store of this user's own)",
        exit_code=ExitCode.HOST,
        detail=errors,
    )


def _lacking(match: re.Match[str], _base: str, _what: str, _errors: tuple[str, ...]) -> RaveError:
    tools = match[1].split()
    packages = " ".join(dict.fromkeys(BUILDER_PACKAGES.get(tool, tool) for tool in tools))
    return RaveError(
        f"this host lacks {', '.join(tools)}",
        hint=f"apt-get install {packages}",
        exit_code=ExitCode.HOST,
    )


def _owner(_match: re.Match[str], _base: str, what: str, errors: tuple[str, ...]) -> RaveError:
    place = what.partition("#")[0]
    return RaveError(
        f"git does not trust {place}: it belongs to another user",
        hint=f"git config --global --add safe.directory {place}",
        exit_code=ExitCode.HOST,
        detail=errors,
    )


def _offline(_match: re.Match[str], _base: str, what: str, errors: tuple[str, ...]) -> RaveError:
    profile = what.rpartition("#")[2].removesuffix("-debian")
    return RaveError(
        "nixpkgs could not be fetched: its address cannot be reached from here",
        hint=f"rave vm build-image --profile {profile} --base debian   (needs no nixpkgs)",
        exit_code=ExitCode.BUILD,
        detail=errors,
    )


def no_kvm(profile: str, errors: tuple[str, ...] = ()) -> RaveError:
    """Return what to say where no builder can run the virtual machine that writes a NixOS image."""
    return RaveError(
        "an image of the nixos base is written inside a virtual machine, and no Nix builder here"
        " has the feature kvm",
        hint=f"rave vm build-image --profile {profile} --base debian   (needs no KVM)",
        exit_code=ExitCode.HOST,
        detail=errors,
    )


def _featureless(
    _match: re.Match[str], _base: str, what: str, errors: tuple[str, ...]
) -> RaveError:
    return no_kvm(what.rpartition("#")[2].removesuffix("-full"), errors)


def _unknown(_match: re.Match[str], _base: str, what: str, _errors: tuple[str, ...]) -> RaveError:
    place, _, attribute = what.rpartition("#")
    return RaveError(
        f"the flake in {place} has no package {attribute}",
        hint="rave vm list-profiles",
        exit_code=ExitCode.USAGE,
    )


# What Nix says where this user has neither a store nor a daemon to ask.
_NO_STORE = (
    r"could not set permissions on '/nix|"
    r"creating directory '/nix|opening lock file '/nix.*Permission denied|big-lock"
    r"|cannot connect to (?:socket|daemon)|'/nix/store'.*not (?:exist|allowed)"
)
_NO_SPACE = r"No space left on device|Disk quota exceeded|ENOSPC"
_NO_TOOL = r"rave: this host lacks (.+)"
_NOT_OURS = r"dubious ownership|is not owned by current user"
_NO_FEATURE = r"with features \{[^}]*\bkvm\b[^}]*\} is required"
_NO_ATTRIBUTE = r"does not provide attribute"
_NO_NETWORK = (
    r"unable to download|couldn't resolve host|could not resolve host|Connection refused"
    r"|Network is unreachable|Failed to connect|cannot connect to .*:443"
)

# Tried in order; the first pattern that Nix's words match names the fault.
_FAULTS = (
    (_NO_SPACE, _full),
    (_NO_TOOL, _lacking),
    (_NOT_OURS, _owner),
    (_NO_FEATURE, _featureless),
    (_NO_ATTRIBUTE, _unknown),
    (_NO_NETWORK, _offline),
    (_NO_STORE, _no_store),
)
