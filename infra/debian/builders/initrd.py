"""Write the guest's initrd: a cpio archive of the tiny init and the modules it loads."""

from __future__ import annotations

import lzma
import subprocess
from typing import TYPE_CHECKING

from guestroot import guest_program

if TYPE_CHECKING:
    from pathlib import Path

REGULAR, DIRECTORY = 0o100000, 0o040000

# What the boot waits for, and what a second process loads meanwhile.
LISTS = ("first", "later")


def write_initrd(root: Path, tools: Path, sources: Path, target: Path) -> None:
    """Compile `sources`/init.c and pack it with what the lists in `sources`/modules name, and with
    the list of what it runs beforehand.

    Args:
        root: the guest's root file system; brings the C library that tcc runs on, and the modules.
        tools: extracted tool packages, with tcc.
        sources: infra/debian/initrd.
        target: the archive, uncompressed: unpacking costs more than reading at this size.
    """
    program = target.with_name("init")
    tcc = guest_program(root, "usr/bin/tcc", prefix=tools)
    subprocess.run(
        [*tcc, "-B", tools / "usr/lib/x86_64-linux-gnu/tcc", "-nostdinc", "-nostdlib", "-static",
         "-o", program, sources / "init.c"],
        check=True, env={"LC_ALL": "C"},
    )  # fmt: skip
    entries = [(name, DIRECTORY | 0o755, b"") for name in ("dev", "root", "modules")]
    for name in LISTS:
        entries += listed(
            name, read_modules(root, (sources / "modules" / name).read_text().split())
        )
    entries += [("forerun", REGULAR | 0o644, (sources / "forerun").read_bytes())]
    entries += [("init", REGULAR | 0o755, program.read_bytes())]
    program.unlink()
    target.write_bytes(cpio(entries))


def listed(name: str, modules: dict[str, bytes]) -> list[tuple[str, int, bytes]]:
    """Return the entries of a list and its modules; the list names their paths in its order."""
    found = [(f"modules/{module}", REGULAR | 0o644, data) for module, data in modules.items()]
    text = "".join(f"/{path}\n" for path, _, _ in found)
    return [(f"modules/{name}", REGULAR | 0o644, text.encode()), *found]


def read_modules(root: Path, names: list[str]) -> dict[str, bytes]:
    """Return the modules in the order of `names`, unpacked, for the tiny init loads them as they
    are. What this kernel has built in is left out.
    """
    tree = root / "usr/lib/modules"
    found = {path.name.partition(".ko")[0]: path for path in tree.rglob("*.ko*")}
    builtin = {
        line.rpartition("/")[2].removesuffix(".ko").replace("-", "_")
        for listing in tree.glob("*/modules.builtin")
        for line in listing.read_text().splitlines()
    }
    missing = [
        name for name in names if name not in found and name.replace("-", "_") not in builtin
    ]
    if missing:
        raise SystemExit(f"the kernel has no module {', '.join(missing)}")
    return {f"{name}.ko": unpacked(found[name]) for name in names if name in found}


def unpacked(module: Path) -> bytes:
    """Return a module's content; Debian 13 compresses the files."""
    data = module.read_bytes()
    return lzma.decompress(data) if module.suffix == ".xz" else data


def cpio(entries: list[tuple[str, int, bytes]]) -> bytes:
    """Return a cpio archive (format newc), owned by root, without time stamps."""
    members = [*entries, ("TRAILER!!!", 0, b"")]
    return b"".join(member(i, *entry) for i, entry in enumerate(members, start=1))


def member(inode: int, name: str, mode: int, data: bytes) -> bytes:
    """Return one cpio member: header, name and data, each padded to four bytes."""
    links = 2 if mode & DIRECTORY else 1
    path = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + path
    return head.ljust(-(-len(head) // 4) * 4, b"\0") + data.ljust(-(-len(data) // 4) * 4, b"\0")
