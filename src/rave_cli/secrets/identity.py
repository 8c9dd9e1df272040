"""The operator's age identities: every place where sops looks for them, and one made where none is.

The places and their order are those of sops (age/keysource.go); it uses what it finds in all of
them, and so do we. SSH keys and key services are not used: the policy allows age1 recipients
alone, which neither can serve.
"""

from __future__ import annotations

import os
import shlex
import stat
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import age, paths, process
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "SOPS_AGE_KEY"
KEY_FILE = "SOPS_AGE_KEY_FILE"
KEY_COMMAND = "SOPS_AGE_KEY_CMD"
# What sops also takes a data key from, and rave does not.
NOT_USED = ("SOPS_AGE_SSH_PRIVATE_KEY_FILE", "SOPS_AGE_SSH_PRIVATE_KEY_CMD", "SOPS_KEYSERVICE")
COMMAND_PATIENCE = 120.0  # seconds; a person may have to type a passphrase or touch a token


@dataclass(frozen=True)
class Source:
    """One place with identities: a file, or the name of a variable. `unused` is in words."""

    place: str
    identities: tuple[age.Identity, ...]
    unused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Keys:
    """The operator's identities, from every place that holds some; there is at least one."""

    sources: tuple[Source, ...]

    @property
    def identities(self) -> tuple[age.Identity, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys(one for source in self.sources for one in source.identities))

    @property
    def own(self) -> Source:
        """The first source with an identity: who the operator is where one has to be named."""
        return next(source for source in self.sources if source.identities)

    @property
    def recipients(self) -> tuple[str, ...]:
        """The public halves."""
        return tuple(identity.recipient for identity in self.identities)

    @property
    def text(self) -> bytes:
        """A key file with all of them. It goes to sops, never to a log."""
        return b"".join(identity.file_text() for identity in self.identities)

    @property
    def tried(self) -> str:
        """In words, where the identities are from and what was found there and not used."""
        return ", ".join(
            source.place + (f" (without {'; '.join(source.unused)})" if source.unused else "")
            for source in self.sources
        )


def default_file() -> Path:
    """Return the key file that sops looks for whatever the environment says."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    config = Path(base) if base.startswith("/") else Path.home() / ".config"
    return config / "sops/age/keys.txt"


def key_file() -> Path:
    """Return the key file that `ensure` makes: SOPS_AGE_KEY_FILE, else the default one."""
    return _named_file() or default_file()


def find() -> Keys | None:
    """Return the operator's keys, or None if there is no place with any.

    Raises:
        RaveError: SECRETS if a place is there and cannot be used, or only such as rave does not
            use; HOST if one cannot be read.
    """
    sources = tuple(_sources())
    if any(source.identities for source in sources):
        _refuse_missing_file()
        return Keys(sources)
    unused = [f"{source.place}, {what}" for source in sources for what in source.unused]
    ignored = [name for name in NOT_USED if os.environ.get(name)]
    if unused or ignored:
        raise RaveError(
            f"there is no age identity that rave can use, only {'; '.join([*unused, *ignored])}",
            hint=f"set {KEY_FILE} to a file with an AGE-SECRET-KEY-1 line, which age-keygen makes;"
            f" rave makes one itself: env {' '.join(f'-u {name}' for name in ignored)}"
            f"{' ' if ignored else ''}{KEY_FILE}=ANOTHER_PLACE rave secrets init",
            exit_code=ExitCode.SECRETS,
        )
    if sources:
        raise RaveError(
            f"{', '.join(source.place for source in sources)} holds no age identity",
            hint="an age identity is a line that starts with AGE-SECRET-KEY-1",
            exit_code=ExitCode.SECRETS,
        )
    return None


def load() -> Keys:
    """Return the operator's keys.

    Raises:
        RaveError: SECRETS if there are none; otherwise as `find`.
    """
    keys = find()
    if keys is None:
        raise RaveError(
            f"there is no age identity at {key_file()}",
            hint=f"rave secrets init   (or set {KEY}, {KEY_FILE} or {KEY_COMMAND}, as for sops)",
            exit_code=ExitCode.SECRETS,
        )
    return keys


def ensure() -> tuple[Keys, bool]:
    """Return the operator's keys and whether they were made just now.

    Raises:
        RaveError: as `find`; HOST if none can be written.
    """
    wanted = _missing_file() is not None and not _set(KEY) and not _set(KEY_COMMAND)
    keys = None if wanted else find()
    if keys is not None:
        return keys, False
    _create(key_file(), age.generate().file_text())
    return load(), True


def _refuse_missing_file() -> None:
    """A file that is named and not there is a mistake, even where other places have identities."""
    missing = _missing_file()
    if missing is not None:
        raise RaveError(
            f"{KEY_FILE} names {missing}, which does not exist",
            hint=f"correct it, or leave it out: env -u {KEY_FILE} rave secrets …",
            exit_code=ExitCode.SECRETS,
        )


def _missing_file() -> Path | None:
    named = _named_file()
    return named if named is not None and not os.path.lexists(named) else None


def _set(variable: str) -> bool:
    return bool(os.environ.get(variable, "").strip())


def _sources() -> Iterator[Source]:
    if _set(KEY):
        yield _source(KEY, os.environb[KEY.encode()], by_word=True)
    named, default = _named_file(), default_file()
    # lexists: a dangling link is a fault to report, not a missing file.
    if named is not None and os.path.lexists(named):
        yield _source(str(named), _read(named))
    if _set(KEY_COMMAND):
        yield _source(KEY_COMMAND, _output(os.environ[KEY_COMMAND]))
    if default != named and os.path.lexists(default):
        yield _source(str(default), _read(default))


def _source(place: str, data: bytes, *, by_word: bool = False) -> Source:
    try:
        found = age.parse_keys(data.decode(), by_word=by_word)
    except UnicodeDecodeError as error:
        raise RaveError(
            f"{place} is not an age key file: it is not text in UTF-8",
            hint=f"file {place}; then set {KEY_FILE} to the right one",
            exit_code=ExitCode.SECRETS,
        ) from error
    except RaveError as error:
        raise RaveError(
            f"{place}: {error.message}", hint=error.hint, exit_code=error.exit_code
        ) from error
    return Source(place, found.identities, found.unused)


def _named_file() -> Path | None:
    given = os.environ.get(KEY_FILE, "")
    return Path(given).expanduser().absolute() if given else None


def _read(path: Path) -> bytes:
    with suppress(OSError):
        found = path.stat()
        if stat.S_ISFIFO(found.st_mode):
            return _read_once(path, found.st_dev, found.st_ino)
    return paths.read_private(path)


@cache
def _read_once(path: Path, _device: int, _inode: int) -> bytes:
    """Read a pipe: what one step of a command took out of it, the next cannot read again."""
    return paths.read_private(path)


@cache
def _output(command: str) -> bytes:
    """Run the command of SOPS_AGE_KEY_CMD, which may ask on the terminal: once is enough."""
    try:
        # As google/shlex does, which sops splits it with.
        argv = shlex.split(command, comments=True)
    except ValueError as error:
        raise _failed(f"cannot be split into words: {error}") from error
    done = process.ask(argv, timeout=COMMAND_PATIENCE)
    if not done.ok:
        raise _failed(f"ended with status {done.returncode}")
    return done.stdout


def _failed(why: str) -> RaveError:
    return RaveError(
        f"the command of {KEY_COMMAND} {why}",
        hint=f"try it by hand, or leave it out: env -u {KEY_COMMAND} rave secrets …",
        exit_code=ExitCode.SECRETS,
    )


def _create(path: Path, data: bytes) -> None:
    """Write a new file of mode 0600, never over an existing one."""
    paths.make_dir(path.parent)
    with paths.refusing(path):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(fd)
        paths.sync_dir(path.parent)
