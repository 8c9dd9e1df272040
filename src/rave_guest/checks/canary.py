"""Searches the running machine for its own secrets, where they must not be.

The guest reads the values from /run/secrets itself: root there has them anyway, so nothing secret
has to travel for this. What is reported is the secret's name and the place, never the value.
"""

from __future__ import annotations

import base64
import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rave_guest.verdict import Verdict, errored, judge, skipped
from rave_guest.world import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rave_guest.world import World

ABSENT = "no secrets are installed (rave secrets install)"
# Shorter values would be found by chance.
SHORTEST = 12
PLACES = ("/etc", "/home", "/opt", "/root", "/run/*", "/srv", "/tmp", "/usr/lib/rave", "/usr/local",  # noqa: S108 - searched, not used
          "/var")  # fmt: skip
# Where plain secrets belong.
HOME = ("/run/secrets", "/run/secrets.d")


def patterns(values: Mapping[str, str]) -> dict[bytes, str]:
    """Return what to search for, with the secret's name: each value plain, base64 and URL-quoted.

    Of a value with several lines (a PEM key) every long line counts by itself.
    """
    found: dict[bytes, str] = {}
    for name, value in values.items():
        lines = [line.strip() for line in value.splitlines()]
        for line in lines:
            if len(line) < SHORTEST or line.startswith("-----"):
                continue
            for form in (line, quote(line, safe=""), _base64(line)):
                found[form.encode()] = name
    return found


def _base64(text: str) -> str:
    # Without the last group, which depends on what follows.
    return base64.b64encode(text.encode()).decode().rstrip("=")[:-2]


def _sought(ask: Mapping[str, Any], world: World) -> dict[bytes, str]:
    values = {name: world.secret(path) for name, path in ask["secrets"].items()}
    return patterns({name: value for name, value in values.items() if value})


def canary_files(ask: Mapping[str, Any], world: World) -> Verdict:
    """No file of the machine outside /run/secrets holds a secret."""
    sought = _sought(ask, world)
    if not sought:
        return skipped(ABSENT)
    argv = ["grep", "-rlaF", "-D", "skip", "-f", "-"]
    argv += [path for place in PLACES for path in glob.glob(place) if path not in HOME]
    words = b"\n".join(sought).decode()
    done = run(argv, ask["timeout"], stdin=words + "\n", env={"LC_ALL": "C"})
    if done.returncode > 1 and not done.stdout:
        return errored(f"grep: {done.stderr.strip()[-200:]}")
    return judge([f"found in {path}" for path in done.stdout.splitlines()], _searched(sought))


def canary_processes(ask: Mapping[str, Any], world: World) -> Verdict:
    """No process carries a secret in its arguments or environment."""
    sought = _sought(ask, world)
    if not sought:
        return skipped(ABSENT)
    texts = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for part in ("cmdline", "environ"):
            try:
                texts[f"{part} of {_comm(pid)}"] = Path(f"/proc/{pid}/{part}").read_bytes()
            except OSError:
                continue
    return judge(find(texts, sought), f"{_searched(sought)} in {len(texts)} places")


def _comm(pid: str) -> str:
    return f"{Path(f'/proc/{pid}/comm').read_text().strip()} ({pid})"


def canary_journal(ask: Mapping[str, Any], world: World) -> Verdict:
    """No message and no logged command line in the journal holds a secret."""
    sought = _sought(ask, world)
    if not sought:
        return skipped(ABSENT)
    argv = ["journalctl", "-q", "-a", "--no-pager", "-o", "cat"]
    done = run([*argv, "--output-fields=MESSAGE,_CMDLINE"], ask["timeout"])
    if done.returncode != 0:
        return errored(f"journalctl: {done.stderr.strip()[-200:]}")
    size = len(done.stdout) // 1024
    return judge(
        find({"the journal": done.stdout.encode()}, sought), f"{_searched(sought)} in {size} KiB"
    )


def find(texts: Mapping[str, bytes], sought: Mapping[bytes, str]) -> list[str]:
    """Return where which secret was found, by name."""
    hits: Iterable[tuple[str, str]] = (
        (name, place) for place, text in texts.items() for form, name in sought.items()
        if form in text
    )  # fmt: skip
    return [f"{name} is in {place}" for name, place in sorted(set(hits))]


def _searched(sought: Mapping[bytes, str]) -> str:
    return f"searched for {len(set(sought.values()))} secrets in {len(sought)} forms"
