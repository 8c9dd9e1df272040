"""Builder of a service's set: its wheels and tarballs in one directory, compiled, as a tar.

Usage: sealed.py SPEC OUT; SPEC is JSON that ../default.nix writes. No pip and no npm: a wheel is
unzipped (PyPA, "Binary distribution format"), a tarball unpacked, and Python of the base compiles.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from guestroot import guest_environment, run_in, say, walk

SETS = "usr/lib/rave/sets"
EXECUTABLE = 0o111

# What of a wheel's data directory belongs beside its modules. Programs, headers and manuals are
# for an installation that is shared; a set runs modules.
BESIDE = {"purelib", "platlib"}

# All of a set, in a fixed order and one process: what one file leaves interned shows in the next.
# A module for another Python than the guest's does not compile, and is left as it is.
COMPILE = """
import compileall, py_compile, sys
compileall.compile_dir(
    sys.argv[1], quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
)
"""


def main() -> None:
    """Build a set."""
    spec_file, out = (Path(word) for word in sys.argv[1:])
    spec = json.loads(spec_file.read_text())
    epoch = int(spec["epoch"])
    root = Path.cwd() / "root"
    os.umask(0o022)
    say(f"unpacking the base for {spec['name']}")
    root.mkdir()
    subprocess.run(
        ["tar", "-x", "-p", "--numeric-owner", "-f", Path(spec["base"]) / "root.tar", "-C", root],
        check=True,
    )
    target = root / SETS / spec["name"]
    target.mkdir(parents=True)
    say(f"unpacking the set of {spec['name']}")
    fill(target, spec)
    say(f"compiling the set of {spec['name']}")
    env = guest_environment(epoch)
    run_in(root, ["python3", "-IS", "-c", COMPILE, f"/{SETS}/{spec['name']}"], env)
    settle(target, epoch)
    say("writing the archive")
    out.mkdir()
    archive(root, spec["name"], out / "set.tar", env)


def fill(target: Path, spec: dict[str, Any]) -> None:
    """Put launcher, wheels and tarballs of a set into its directory.

    Raises:
        SystemExit: two of them bring different files of one name, or one is no archive of its kind.
    """
    for wheel in spec["wheels"]:
        unzip(wheel["name"], Path(wheel["file"]), target)
    for tarball in spec["tarballs"]:
        untar(tarball["name"], Path(tarball["file"]), target / "node_modules" / tarball["name"])
    if (target / "__main__.py").exists():
        raise SystemExit("a wheel brings __main__.py, which is the launcher's name")
    shutil.copyfile(Path(__file__).with_name("launcher.py"), target / "__main__.py")


def unzip(name: str, wheel: Path, target: Path) -> None:
    """Unzip a wheel into a set."""
    with zipfile.ZipFile(wheel) as files:
        for entry in files.infolist():
            place = place_in_set(PurePosixPath(entry.filename))
            if place is not None and not entry.is_dir():
                executable = bool((entry.external_attr >> 16) & EXECUTABLE)
                write(name, target / place, files.read(entry), executable=executable)


def place_in_set(path: PurePosixPath) -> PurePosixPath | None:
    """Return where a wheel's file belongs in a set; None if nowhere.

    Raises:
        SystemExit: it would leave the set.
    """
    if path.is_absolute() or ".." in path.parts:
        raise SystemExit(f"a wheel names a file outside itself: {path}")
    if not path.parts[0].endswith(".data"):
        return path
    return PurePosixPath(*path.parts[2:]) if path.parts[1] in BESIDE else None


def untar(name: str, tarball: Path, target: Path) -> None:
    """Unpack a tarball of npm without its top directory; links and devices have no place in one.

    Raises:
        SystemExit: it would leave the set.
    """
    with tarfile.open(tarball) as files:
        for member in files:
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts:
                raise SystemExit(f"{name} names a file outside itself: {path}")
            stream = files.extractfile(member) if member.isfile() else None
            if stream is not None:
                place = target.joinpath(*path.parts[1:])
                write(name, place, stream.read(), executable=bool(member.mode & EXECUTABLE))


def write(name: str, place: Path, data: bytes, *, executable: bool) -> None:
    """Write one file of a set.

    Raises:
        SystemExit: another file of the set has that name and other content.
    """
    if place.exists() and place.read_bytes() != data:
        raise SystemExit(f"{name} brings {place.name}, of which the set has another one: {place}")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    place.chmod(0o755 if executable else 0o644)


def settle(target: Path, epoch: int) -> None:
    """Give everything in a set one time stamp: those in wheels are of whoever packed them."""
    for path in (*walk(target), target):
        os.utime(path, (epoch, epoch))


def archive(root: Path, name: str, target: Path, env: dict[str, str]) -> None:
    """Write a set as a tar, sorted and owned by root, with the base's own tar."""
    headers = "%d/PaxHeaders/%f"  # without the process id that tar would put there
    with target.open("wb") as stream:
        subprocess.run(
            ["chroot", root, "tar", "-c", "--sort=name", "--owner=0", "--group=0",
             "--numeric-owner", "--format=posix",
             f"--pax-option=exthdr.name={headers},delete=atime,delete=ctime",
             "-C", f"/{SETS}", name],
            env=env, stdout=stream, check=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
