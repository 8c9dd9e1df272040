"""What a changed byte of a transcript set comes to: every byte of every file, one after another.

Usage: python -m benchmarks.attack_transcript TRANSCRIPT KEY [MASK]

MASK (1 by default) is what each byte is XORed with; 32 changes the case of a letter. Prints how
many changes were made, and ends with 1 if one was accepted.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from benchmarks.measure import report
from rave_cli.transcript import RefusedError, verify
from rave_cli.transcript.writer import siblings


def attack(file: Path, document: Path, key: Path, mask: int) -> tuple[int, list[int]]:
    """Change each byte of `file` in turn; return how many there are, and which were accepted."""
    good = file.read_bytes()
    accepted = []
    for at, byte in enumerate(good):
        file.write_bytes(good[:at] + bytes([byte ^ mask]) + good[at + 1 :])
        with suppress(RefusedError):
            verify(document, key=key)
            accepted.append(at)
    file.write_bytes(good)
    return len(good), accepted


def main(transcript: str, key: str, mask: str = "1") -> int:
    """Attack a copy of the set; the good one must verify before and after."""
    original = siblings(Path(transcript))
    with tempfile.TemporaryDirectory(prefix="rave-attack-") as place:
        files = [original.document, original.events, original.dsse, original.sshsig]
        copies = [Path(shutil.copy(file, place)) for file in files if file is not None]
        verify(copies[0], key=Path(key))
        found = {c.name: attack(c, copies[0], Path(key), int(mask)) for c in copies}
        verify(copies[0], key=Path(key))
    tried = sum(count for count, _ in found.values())
    accepted = {name: places for name, (_, places) in found.items() if places}
    report("attack_transcript", {"mask": int(mask), "tried": tried, "accepted": accepted})
    return int(bool(accepted))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
