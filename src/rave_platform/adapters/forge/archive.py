"""The files of a project out of a tar archive, in memory: nothing is unpacked to a disk."""

from __future__ import annotations

import io
import tarfile

from rave_platform.application.forge import ForgeRefusedError

# Of a project that an agent reads: files, and bytes of all of them together.
MOST_FILES = 20_000
MOST_BYTES = 64 * 1024 * 1024


def files(archive: bytes, *, strip: int) -> dict[str, bytes]:
    """Return the regular files; `strip` parts of each path are the archive's own.

    Raises:
        ForgeRefusedError: if it is no archive, or holds too much.
    """
    found: dict[str, bytes] = {}
    size = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar:
                path = "/".join(member.name.split("/")[strip:])
                file = tar.extractfile(member) if member.isreg() and path else None
                if file is None:
                    continue
                size += member.size
                if size > MOST_BYTES or len(found) >= MOST_FILES:
                    raise ForgeRefusedError("the forge: the project is too large to work on")
                found[path] = file.read()
    except (tarfile.TarError, EOFError, OSError) as fault:
        raise ForgeRefusedError("the forge: no archive") from fault
    return found
