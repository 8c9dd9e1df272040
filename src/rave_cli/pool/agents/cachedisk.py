"""The cache disk of a job, in its machine: laid out before the command, closed after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.qemu.argv import CACHE

if TYPE_CHECKING:
    from rave_cli.machines.guest.channel import CommandChannel
    from rave_cli.machines.guest.session import Session

# Where the command finds it: $RAVE_CACHE.
PLACE = "/var/cache/rave-job"

# What the template's kernel has read of the disk that it had is not what is there now. What cannot
# be mounted, whoever left it so, is begun anew: the whole disk is this job's.
_OPEN = f"""
set -eu
place={PLACE}
disk=/dev/$(grep -lx {CACHE} /sys/block/*/serial | cut -d / -f 4)
blockdev --flushbufs "$disk"
mkdir -p "$place"
mount() {{ command mount -t ext4 -o nosuid,nodev,noatime "$disk" "$place"; }}
if ! blkid -p -s TYPE -o value "$disk" >/dev/null || ! mount 2>/dev/null; then
  mkfs.ext4 -q -F -m 0 -E lazy_itable_init=1,nodiscard "$disk"
  mount
fi
chown "${{SUDO_USER:-root}}" "$place"
"""

# Frozen, if something has it open still, it is as whole as unmounted.
_CLOSE = f"sync; umount {PLACE} 2>/dev/null || fsfreeze --freeze {PLACE}"


def lay_out(session: CommandChannel | Session, *, timeout: float) -> None:
    """Mount the disk for whoever commands run as; one that is empty gets a file system.

    Raises:
        RaveError: NOT_READY if its guest cannot.
    """
    _run(session, ("sh", "-c", _OPEN), timeout)


def close(session: CommandChannel | Session, *, timeout: float) -> None:
    """Let everything that was written be on the disk, whole.

    Raises:
        RaveError: NOT_READY if its guest cannot.
    """
    _run(session, ("sh", "-c", _CLOSE), timeout)


def _run(session: CommandChannel | Session, words: tuple[str, ...], timeout: float) -> None:
    said = bytearray()

    def take(_stream: int, data: bytes) -> None:
        said.extend(data[: 4096 - len(said)])

    status = session.stream(words, stdin=None, on_output=take, timeout=timeout, sudo=True)
    if status != 0:
        last = " ".join(said.decode(errors="replace").split()[-40:])
        raise RaveError(
            f"its machine has no use of its cache: {last or f'exit status {status}'}",
            hint="rave pool cache remove KEY",
            exit_code=ExitCode.NOT_READY,
        )
