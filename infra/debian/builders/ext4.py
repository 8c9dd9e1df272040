"""Write a directory as an ext4 file system, always to the same bytes, by the guest's e2fsprogs."""

from __future__ import annotations

import re
import subprocess
import uuid
from pathlib import Path

from guestroot import guest_program

# Any fixed namespace would do; the file system is found as /dev/vda, never by this id.
NAMESPACE = uuid.UUID("5ae0cf3e-7b0f-5c3a-9a64-3d6c1f7f2a11")

# In place of the host's /etc/mke2fs.conf: all that counts is on the command line.
CONFIG = "[defaults]\nblocksize = 4096\n[fs_types]\next4 = {\ninode_size = 256\n}\n"
FEATURES = (
    "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,metadata_csum,"
    "sparse_super,large_file,huge_file,dir_nlink,extra_isize,resize_inode"
)
BYTES_PER_INODE = 32768
JOURNAL_MIB = 64
FIRST_INODE = 11


def write_ext4(
    tree: Path, target: Path, *, programs: Path, size: int, name: str, label: str, epoch: int
) -> None:
    """Write `tree` to the file `target` as an ext4 file system of `size` bytes.

    Args:
        tree: the directory; owners, modes, links and time stamps are taken over.
        programs: the root whose e2fsprogs write it.
        target: created sparse.
        size: bytes.
        name: what the ids in the file system are derived from.
        label: its volume label, for people.
        epoch: seconds; every time stamp that mke2fs would take from the clock.
    """
    with target.open("wb") as stream:
        stream.truncate(size)
    env = {"E2FSPROGS_FAKE_TIME": str(epoch), "SOURCE_DATE_EPOCH": str(epoch), "LC_ALL": "C",
           "MKE2FS_CONFIG": str(target.with_suffix(".conf"))}  # fmt: skip
    Path(env["MKE2FS_CONFIG"]).write_text(CONFIG)
    ident = uuid.uuid5(NAMESPACE, name)
    # Nothing is left to initialise, or the guest would write inode tables while it boots.
    extended = f"hash_seed={uuid.uuid5(ident, 'hash')},root_owner=0:0,nodiscard"
    extended += ",lazy_itable_init=0,lazy_journal_init=0"
    # -e: a guest whose file system is damaged stops writing, instead of damaging more of it.
    subprocess.run(
        [*guest_program(programs, "usr/sbin/mke2fs"), "-q", "-F", "-t", "ext4",
         "-b", "4096", "-I", "256", "-i", str(BYTES_PER_INODE), "-J", f"size={JOURNAL_MIB}",
         "-m", "1", "-e", "remount-ro", "-O", FEATURES, "-E", extended,
         "-U", str(ident), "-L", label, "-d", tree, target],
        check=True, env=env,
    )  # fmt: skip
    settle_times(target, programs, epoch, env)


def settle_times(image: Path, programs: Path, epoch: int, env: dict[str, str]) -> None:
    """Set every inode's change and access time to `epoch`; mke2fs copies the builder's disk's."""
    script = image.with_suffix(".debugfs")
    lines = (
        f"set_inode_field <{i}> {field} @{epoch}\n"
        for i in used_inodes(image, programs, env)
        for field in ("ctime", "atime")
    )
    script.write_text("".join(lines))
    subprocess.run(
        [*guest_program(programs, "usr/sbin/debugfs"), "-w", "-f", script, image],
        check=True, env=env, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    script.unlink()


def used_inodes(image: Path, programs: Path, env: dict[str, str]) -> list[int]:
    """Return the root's inode number and those of all files."""
    report = subprocess.run(
        [*guest_program(programs, "usr/sbin/dumpe2fs"), image],
        check=True, env=env, capture_output=True, text=True,
    ).stdout  # fmt: skip
    total = int(re.findall(r"^Inode count: +(\d+)$", report, re.MULTILINE)[0])
    free: set[int] = set()
    for ranges in re.findall(r"^  Free inodes: (.+)$", report, re.MULTILINE):
        for part in ranges.split(", "):
            first, _, last = part.partition("-")
            free.update(range(int(first), int(last or first) + 1))
    return [2, *(i for i in range(FIRST_INODE, total + 1) if i not in free)]
