"""From the encrypted file to the entries of a generation, with sops as the only cryptography."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager

from rave_guest.refusal import Refused
from rave_guest.secrets.generations import SecretFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

TIMEOUT = 60.0  # seconds for sops


@contextmanager
def decrypting(sops: str, identity: bytes, file: bytes) -> Iterator[Callable[[], dict[str, bytes]]]:
    """Let sops decrypt a file meanwhile; what is yielded waits for it and returns the values.

    Values are by name: the path joined with `/`.

    Raises:
        Refused: from the yielded function, if sops cannot decrypt it, or a value is not text.
    """
    argv = [sops, "--config", "/dev/null", "decrypt"]
    argv += ["--input-type", "yaml", "--output-type", "json"]
    with _memory_file(identity) as key, _memory_file(file) as source:
        # No home: no other key and no configuration than ours takes part.
        env = {"HOME": "/nonexistent", "SOPS_AGE_KEY_FILE": f"/proc/self/fd/{key}"}
        with subprocess.Popen(
            argv,
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(key,),
            cwd="/",
            env=env,
        ) as child:
            try:
                yield lambda: _decrypted(child)
            finally:
                child.kill()


def entries(plan: Mapping[str, Any], values: Mapping[str, bytes]) -> dict[str, SecretFile]:
    """Return the generation that a plan wants, from decrypted values.

    Raises:
        Refused: a secret of the plan has no value.
    """
    missing = [name for name in plan["secrets"] if not values.get(name)]
    if missing:
        raise Refused("decrypt", f"the file lacks {', '.join(missing)}")
    return {
        name: SecretFile(values[name], secret["owner"], int(secret["mode"], 8))
        for name, secret in plan["secrets"].items()
    }


def undumpable() -> None:
    """Let no core dump of this process hold a secret."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def last_line(text: bytes) -> str:
    """Return the last line that a program printed."""
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"


def _decrypted(child: subprocess.Popen[bytes]) -> dict[str, bytes]:
    try:
        stdout, stderr = child.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise Refused("decrypt", f"sops did not end within {TIMEOUT:g} s") from error
    if child.returncode:
        raise Refused("decrypt", f"sops cannot decrypt the file: {last_line(stderr)}")
    values: dict[str, bytes] = {}
    _flatten(json.loads(stdout), (), values)
    return values


def _flatten(node: object, path: tuple[str, ...], values: dict[str, bytes]) -> None:
    if isinstance(node, dict):
        for key, child in node.items():
            _flatten(child, (*path, key), values)
    elif isinstance(node, str):
        values["/".join(path)] = node.encode()
    else:
        raise Refused("decrypt", f"{'/'.join(path)} is not text")


@contextmanager
def _memory_file(data: bytes) -> Iterator[int]:
    fd = os.memfd_create("rave", os.MFD_CLOEXEC)
    try:
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)
