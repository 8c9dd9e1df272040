"""Builds the tiny guest: Debian's kernel and an initramfs of one program and its modules."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from rave_cli.errors import RaveError
from rave_cli.images import closure, locking
from rave_cli.images.archives import Sources
from rave_cli.images.closure import Supply
from rave_cli.images.events import ignore
from rave_cli.paths import atomic_write

SOURCE = Path(__file__).with_name("guest.c")
ROOT = Path(__file__).resolve().parents[3]

# In the order in which they must be loaded; what the kernel has built in is left out.
MODULES = (
    "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
    "virtio_console", "virtio_blk", "failover", "net_failover", "virtio_net", "evdev", "button",
)  # fmt: skip


class UnavailableError(Exception):
    """Why the tiny guest cannot be had on this host."""


def build(cache: Path) -> tuple[Path, Path]:
    """Return kernel and initramfs, from `cache` if they are there.

    Raises:
        UnavailableError: if a tool is missing or apt cannot download the kernel.
    """
    for tool in ("dpkg-deb", "musl-gcc"):
        if shutil.which(tool) is None:
            raise UnavailableError(f"{tool} is not installed")
    cache.mkdir(parents=True, exist_ok=True)
    tree = cache / "tree"
    # Files of tests run side by side, and the first of each wants it.
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.is_dir():
            _unpack(_download(cache), tree)
        kernel = next((tree / "boot").glob("vmlinuz-*"))
        digest = hashlib.sha256(SOURCE.read_bytes() + repr((MODULES, kernel.name)).encode())
        initrd = cache / f"initrd-{digest.hexdigest()[:16]}"
        if not initrd.exists():
            atomic_write(initrd, _initramfs(_compile(cache), tree))
    return kernel, initrd


def _download(cache: Path) -> Path:
    """Download the kernel that guests have now, whatever release the host is of."""
    request = locking.choose(ROOT, "demo", locked=True).lock.requested
    apt = replace(Supply.of(ROOT, Sources()).apt(request), home=cache / "apt")
    try:
        apt.update()
        chosen = closure.choose_packages(request, apt)
        kernel = next(selected for selected, role in chosen if role == "kernel")
        apt.download([(kernel.name, kernel.version)], cache, ignore)
    except RaveError as error:
        raise UnavailableError(error.message) from error
    return next(cache.glob(f"{kernel.name}_*.deb"))


def _unpack(package: Path, tree: Path) -> None:
    draft = tree.with_suffix(f".{os.getpid()}")
    _run(["dpkg-deb", "-x", str(package), str(draft)], package.parent)
    draft.rename(tree)


def _compile(cache: Path) -> bytes:
    program = cache / f"init-{os.getpid()}"
    # The kernel's own headers are where the C library of the host keeps them, not where musl does.
    headers = cache / "headers"
    headers.mkdir(exist_ok=True)
    for place in ("linux", "x86_64-linux-gnu/asm", "asm-generic"):
        link = headers / Path(place).name
        if not link.is_symlink():
            link.symlink_to(Path("/usr/include") / place)
    _run(
        ["musl-gcc", "-static", "-Os", "-s", "-Wall", f"-isystem{headers}", "-o", str(program),
         str(SOURCE)],
        cache,
    )  # fmt: skip
    try:
        return program.read_bytes()
    finally:
        program.unlink()


def _initramfs(init: bytes, tree: Path) -> bytes:
    found = {path.stem: path for path in (tree / "lib/modules").rglob("*.ko")}
    modules = [found[name] for name in MODULES if name in found]
    listing = "".join(f"/mods/{path.name}\n" for path in modules).encode()
    entries = [("mods", 0o040755, b""), *((d, 0o040755, b"") for d in ("dev", "proc", "sys"))]
    entries += [("init", 0o100755, init), ("modules", 0o100644, listing)]
    entries += [(f"mods/{path.name}", 0o100644, path.read_bytes()) for path in modules]
    return b"".join(_newc(*entry) for entry in [*entries, ("TRAILER!!!", 0, b"")])


def _newc(name: str, mode: int, data: bytes) -> bytes:
    """Return one entry of a cpio archive (Linux: Documentation/driver-api/early-userspace)."""
    path = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    padded = header + path + bytes(-(len(header) + len(path)) % 4)
    return padded + data + bytes(-len(data) % 4)


def _run(argv: list[str], cwd: Path) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UnavailableError(f"{argv[0]} failed: {last}")
    return done.stdout
