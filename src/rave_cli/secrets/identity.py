"""The operator's age identity: where its file is, reading it, making one where there is none."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from rave_cli import age, paths
from rave_cli.errors import ExitCode, RaveError


@dataclass(frozen=True)
class Keys:
    """A key file that was found private: its text goes to sops as it is, never to a log."""

    path: Path
    text: bytes = field(repr=False)
    identities: tuple[age.Identity, ...]

    @property
    def recipients(self) -> tuple[str, ...]:
        """The public halves."""
        return tuple(identity.recipient for identity in self.identities)


def key_file() -> Path:
    """Return the key file: SOPS_AGE_KEY_FILE, else where sops itself looks for it."""
    given = os.environ.get("SOPS_AGE_KEY_FILE", "")
    if given:
        return Path(given).expanduser().absolute()
    base = os.environ.get("XDG_CONFIG_HOME", "")
    config = Path(base) if base.startswith("/") else Path.home() / ".config"
    return config / "sops/age/keys.txt"


def load(path: Path | None = None) -> Keys:
    """Read a key file.

    Raises:
        RaveError: SECRETS if it is missing, readable by others, or holds no age identity.
    """
    place = path or key_file()
    # lexists: a dangling link is a fault to report, not a missing file.
    if not os.path.lexists(place):
        raise RaveError(
            f"there is no age identity at {place}",
            hint="rave secrets init   (or set SOPS_AGE_KEY_FILE to the key file)",
            exit_code=ExitCode.SECRETS,
        )
    text = paths.read_private(place)
    try:
        identities = age.parse_identities(text.decode())
    except UnicodeDecodeError as error:
        raise RaveError(
            f"{place} is not an age key file: it is not text",
            hint="point SOPS_AGE_KEY_FILE at the right key file",
            exit_code=ExitCode.SECRETS,
        ) from error
    except RaveError as error:
        raise RaveError(
            f"{place}: {error.message}", hint=error.hint, exit_code=error.exit_code
        ) from error
    return Keys(place, text, identities)


def ensure() -> tuple[Keys, bool]:
    """Return the operator's keys and whether they were made just now.

    Raises:
        RaveError: SECRETS if a key file is there but cannot be used; HOST if none can be written.
    """
    place = key_file()
    made = not os.path.lexists(place)
    if made:
        _create(place, age.generate().file_text())
    return load(place), made


def _create(path: Path, data: bytes) -> None:
    """Write a new file of mode 0600, never over an existing one."""
    with paths.refusing(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(fd)
        paths.sync_dir(path.parent)
