"""A root file system under construction: unpack into it, run programs in it, settle its times."""

from __future__ import annotations

import json
import lzma
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Runs inside fresh namespaces; $1 is the root, the rest is the command. Everything mounted here
# vanishes with the mount namespace, so an interrupted build leaves nothing behind.
ENTER = r"""
set -eu
root=$1; shift
hostname rave
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t tmpfs -o mode=0755,nosuid tmpfs "$root/dev"
for node in null zero full random urandom tty; do
    : > "$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"
mkdir -m 1777 "$root/dev/shm"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"
exec chroot "$root" "$@"
"""


def say(text: str) -> None:
    """Tell Nix, and through it whoever waits, what happens next."""
    print("@nix " + json.dumps({"action": "setPhase", "phase": text}), file=sys.stderr, flush=True)


def guest_environment(epoch: int) -> dict[str, str]:
    """Return the whole environment of a program that runs in the root: nothing of the host's.

    Args:
        epoch: SOURCE_DATE_EPOCH, seconds.
    """
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
        "SOURCE_DATE_EPOCH": str(epoch),
        "DEBIAN_FRONTEND": "noninteractive",
        "DEBCONF_NONINTERACTIVE_SEEN": "true",
        # Hash order must not reach a file.
        "PYTHONHASHSEED": "0",
        "PERL_HASH_SEED": "0",
        "PERL_PERTURB_KEYS": "0",
    }


def run_in(root: Path, argv: Sequence[str], env: Mapping[str, str]) -> None:
    """Run a program in the root, in namespaces of its own and without a network.

    Raises:
        SystemExit: it failed; what it said is in the build log.
    """
    status = subprocess.run(
        ["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child",
         "/bin/sh", "-c", ENTER, "enter", str(root), *argv],
        env=dict(env), check=False, stdin=subprocess.DEVNULL,
    ).returncode  # fmt: skip
    if status:
        raise SystemExit(f"{argv[0]} failed in the new root, with status {status}")


def extract_deb(deb: Path, target: Path) -> None:
    """Extract a package's files into a directory, without its maintainer scripts.

    Links that merge /bin and friends into /usr are kept.
    """
    argv = ["tar", "-x", "-p", "--numeric-owner", "--keep-directory-symlink", "-C", str(target)]
    with deb.open("rb") as stream, open_data(stream) as data:
        with (
            subprocess.Popen(argv, stdin=subprocess.PIPE) as tar,
            cast("BinaryIO", tar.stdin) as to,
        ):
            shutil.copyfileobj(data, to, 1 << 20)
        if tar.returncode:
            raise subprocess.CalledProcessError(tar.returncode, argv)


def open_data(deb: BinaryIO) -> BinaryIO:
    """Return the files of a package as a tar stream, on a host without Debian's tools, too.

    They are its last ar member, data.tar, which Debian compresses with xz or not at all (deb(5)).
    """
    deb.seek(8)  # !<arch>
    while len(head := deb.read(60)) == 60:
        member, size = head[:16].decode().strip().rstrip("/"), int(head[48:58])
        if member == "data.tar":
            return deb
        if member == "data.tar.xz":
            return cast("BinaryIO", lzma.open(deb))
        deb.seek(size + size % 2, os.SEEK_CUR)
    raise SystemExit(f"{deb.name} holds neither data.tar.xz nor data.tar")


def guest_program(root: Path, program: str, *, prefix: Path | None = None) -> list[str]:
    """Return the argv prefix that runs a program outside the root, with the root's libraries.

    So the version that is used is the locked one, whatever the host has. The program is one of the
    root's, or of the directory `prefix`.
    """
    libraries = root / "usr/lib/x86_64-linux-gnu"
    loader = root / "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    return [str(loader), "--library-path", str(libraries), str((prefix or root) / program)]


def walk(root: Path) -> Iterator[Path]:
    """Yield every path below `root`, children before their directory, sorted."""
    for folder, directories, files in os.walk(root, topdown=False):
        for name in sorted(files + directories):
            yield Path(folder, name)


def clamp_times(root: Path, epoch: int) -> None:
    """Set the time stamps that are newer than `epoch` to it; older ones are the packages' own."""
    for path in [*walk(root), root]:
        modified = min(int(path.lstat().st_mtime), epoch)
        os.utime(path, (modified, modified), follow_symlinks=False)


def remove(root: Path, patterns: Sequence[str]) -> None:
    """Remove what matches the glob patterns below `root`; directories with all they hold."""
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
