"""Builder of the image: the base plus our overlay, configured, as qcow2 with kernel and initrd.

Usage: image.py SPEC OUT; SPEC is JSON that ../default.nix writes. Of the host it uses python3,
tar, unshare, mount and chroot; compiler and file system tools come from the packages.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ext4 import write_ext4
from guestroot import clamp_times, extract_deb, guest_environment, remove, run_in, say
from initrd import write_initrd
from qcow2 import write_qcow2

BUILD = "run/rave-build"
# Where the data disk is mounted, and its file in the output.
DATA, DATA_DISK = "data", "data.qcow2"
LIBRARY = "usr/lib/rave"
SKIPPED = shutil.ignore_patterns(".gitkeep", "__pycache__", "*.pyc")

# What `configure` or the programs it ran may have left.
LEFTOVERS = (
    "run/*",
    "tmp/*",
    "var/tmp/*",
    "var/cache/*/*",
    "etc/.pwd.lock",
    "etc/*-",
    "root/.*history",
)


def main() -> None:
    """Build the image."""
    spec_file, out = (Path(word) for word in sys.argv[1:])
    spec = json.loads(spec_file.read_text())
    root = Path.cwd() / "root"
    epoch = int(spec["epoch"])
    os.umask(0o022)
    say("unpacking the base")
    root.mkdir()
    unpack(Path(spec["base"]) / "root.tar", root)
    say("adding the overlay")
    add_overlay(root, spec)
    tools = root / BUILD / "tools"
    tools.mkdir(parents=True)
    for deb in spec["tools"]:
        extract_deb(Path(deb), tools)
    out.mkdir()
    write_initrd(root, tools, Path(spec["initrd"]), out / "initrd")
    compile_code(root, epoch)
    add_sets(root / LIBRARY / "sets", spec["sets"])
    say("configuring the guest")
    configure(root, spec["build"], epoch)
    remove(root, LEFTOVERS)
    data = Path.cwd() / DATA
    kept = part(root, data, spec["data"])
    for tree, disk, suffix in ((root, out / spec["qcow"], ""), (data, out / DATA_DISK, "-data")):
        clamp_times(tree, epoch)
        say(f"writing {disk.name}")
        raw = Path.cwd() / "disk.raw"
        write_ext4(
            tree, raw, programs=root, size=spec["diskGiB"] << 30, epoch=epoch,
            name=spec["name"] + suffix, label="rave" + suffix,
        )  # fmt: skip
        write_qcow2(raw, disk)
    shutil.copyfile(Path(spec["base"]) / "vmlinuz", out / "vmlinuz")
    shutil.copyfile(spec["lock"], out / "lock.json")
    boot = {"kind": "kernel", "cmdline": spec["cmdline"], "data": kept, "loads": spec["loads"]}
    (out / "boot.json").write_text(json.dumps(boot) + "\n")
    shutil.copyfile(spec["carried"], out / "plan.json")


def part(root: Path, data: Path, places: list[str]) -> list[dict[str, Any]]:
    """Move directories of the root to the tree of the data disk, by their last names, and leave
    links to where that is mounted. Each has been made, with its owner, by then.

    Returns them with their owners, by whom an update tells whether data of another image fit; and
    leaves the guest a list, by which it makes those that such data lack.
    """
    data.mkdir()
    (root / DATA).mkdir()
    kept = []
    for place in (root / place.lstrip("/") for place in places):
        found, filled = place.stat(), any(place.iterdir())
        place.rename(data / place.name)
        place.symlink_to(f"/{DATA}/{place.name}")
        mode = f"{found.st_mode & 0o7777:04o}"
        facts = {"name": place.name, "uid": found.st_uid, "gid": found.st_gid, "mode": mode}
        kept.append({**facts, "filled": filled})
    lines = ["{name} {uid} {gid} {mode}\n".format(**entry) for entry in kept]
    (root / LIBRARY).mkdir(parents=True, exist_ok=True)
    (root / LIBRARY / "data-directories").write_text("".join(lines))
    return kept


def unpack(archive: Path, target: Path) -> None:
    """Unpack a builder's archive into a directory."""
    subprocess.run(
        ["tar", "-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=security.capability",
         "-f", archive, "-C", target],
        check=True,
    )  # fmt: skip


def add_overlay(root: Path, spec: dict[str, Any]) -> None:
    """Copy the overlay directories in order, then our library directory's content."""
    for directory in spec["overlays"]:
        merge(Path(directory), root)
    library = root / LIBRARY
    merge(Path(spec["programs"]), library)
    merge(Path(spec["guest"]), library / "rave_guest")
    for name in spec["platform"]["sets"] if spec["platform"] else ():
        merge(Path(spec["platform"]["source"]), library / "sets" / name / "rave_platform")
    for binary in spec["binaries"]:
        place(Path(binary["file"]), library / binary["name"], executable=True)
    place(Path(spec["plan"]), library / "plan.json", executable=False)


def merge(source: Path, target: Path) -> None:
    """Copy a tree into another; files replace what is there, modes come from the executable bit."""
    target.mkdir(parents=True, exist_ok=True)
    ignored = SKIPPED(str(source), [path.name for path in source.iterdir()])
    for path in sorted(source.iterdir()):
        if path.name in ignored:
            continue
        goal = target / path.name
        if path.is_symlink():
            goal.unlink(missing_ok=True)
            goal.symlink_to(path.readlink())
        elif path.is_dir():
            merge(path, goal)
        else:
            place(path, goal, executable=os.access(path, os.X_OK))


def place(source: Path, target: Path, *, executable: bool) -> None:
    """Copy one file as a new one, 0755 or 0644."""
    target.unlink(missing_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if executable else 0o644)


def compile_code(root: Path, epoch: int) -> None:
    """Compile our Python, bound to nothing but itself: a time stamp in it would be the build's.

    It is there before anything runs it, so that Python has no reason to write its own.
    """
    compiler = ["python3", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    run_in(root, [*compiler, f"/{LIBRARY}"], guest_environment(epoch))


def add_sets(target: Path, sets: list[str]) -> None:
    """Unpack the services' sets, which come compiled."""
    for folder in sets:
        target.mkdir(exist_ok=True)
        unpack(Path(folder) / "set.tar", target)


def configure(root: Path, parts: dict[str, str], epoch: int) -> None:
    """Put what prepares the guest below BUILD, each part at its own place, and run `configure`."""
    for name, source in parts.items():
        if Path(source).is_dir():
            merge(Path(source), root / BUILD / name)
        else:
            place(Path(source), root / BUILD / name, executable=os.access(source, os.X_OK))
    env = guest_environment(epoch) | {"RAVE_BUILD": f"/{BUILD}", "PYTHONDONTWRITEBYTECODE": "1"}
    run_in(root, [f"/{BUILD}/configure"], env)


if __name__ == "__main__":
    main()
