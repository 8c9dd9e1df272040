"""Searches the running machine for its own secrets, where they must not be.

The guest reads the values from /run/secrets itself: root there has them anyway, so nothing secret
has to travel for this. What is reported is the secret's name and the place, never the value.
"""

from __future__ import annotations

import base64
import glob
import os
from collections import namedtuple

from rave_guest.check import Subject, check
from rave_guest.plan import PLACE, secret
from rave_guest.system import run
from rave_guest.verdict import ABSENT, Verdict, errored, judge, skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rave_guest.system import System

# Shorter values would be found by chance.
SHORTEST = 12
# How grep ends its line about a file that is not there, in the C locale.
GONE = ": No such file or directory"

PLACES = ("/data", "/etc", "/home", "/opt", "/root", "/run/*", "/srv", "/tmp",  # noqa: S108 - searched, not used
          "/usr/lib/rave", "/usr/local", "/var")  # fmt: skip
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
            for form in (line, _quoted(line), _base64(line)):
                found[form.encode()] = name
    return found


def _quoted(text: str) -> str:
    # Importing urllib.parse would cost more than the whole search.
    return "".join(c if c.isalnum() or c in "-._~" else f"%{ord(c):02X}" for c in text)


def _base64(text: str) -> str:
    # Without the last group, which depends on what follows.
    return base64.b64encode(text.encode()).decode().rstrip("=")[:-2]


def _sought(arguments: Mapping[str, Any], system: System) -> dict[bytes, str]:
    values = {name: system.secret(path) for name, path in arguments["secrets"].items()}
    return patterns({name: value for name, value in values.items() if value})


def _secrets(about: Subject) -> dict[str, Any]:
    """All but certificates, which are public; and where the plan knows of one, with its reason."""
    sought = [
        name
        for name, entry in about.plan["secrets"].items()
        if entry["generate"]["kind"] != "tls-certificate"
    ]
    return {
        "secrets": {name: secret(about.plan, name) for name in sought},
        "exceptions": about.plan.get("exceptions", []),
    }


@check("security.canary-files", phase="security",
       title="no file of the guest outside /run/secrets holds a secret", timeout=60,
       arguments=_secrets)  # fmt: skip
def files(arguments: Mapping[str, Any], system: System) -> Verdict:
    """No file of the machine outside /run/secrets holds a secret."""
    sought = _sought(arguments, system)
    if not sought:
        return skipped(ABSENT)
    places = [path for place in PLACES for path in glob.glob(place) if path not in HOME]
    # A file that has not changed since the image was made cannot hold what came later. ctime
    # decides, because nobody can set it; the plan is a file of the image, modified with it.
    since = ["-newercm", PLACE] if os.path.exists(PLACE) else []
    listed = run(["find", *places, "-xdev", "-type", "f", *since, "-print0"], arguments["timeout"])
    changed = [path for path in listed.stdout.split("\0") if path]
    words = b"\n".join(sought).decode() + "\n"
    argv = ["grep", "-laF", "-f", "-", "--", *changed, "/dev/null"]
    done = run(argv, arguments["timeout"], stdin=words, env={"LC_ALL": "C"})
    # Files come and go while they are searched; what is gone holds nothing.
    unread = [line for line in done.stderr.splitlines() if not line.endswith(GONE)]
    failed = done.returncode not in (0, 1) and (unread or not done.stderr)
    if failed and not done.stdout:
        return errored(f"grep: {' '.join(unread)[-200:] or done.returncode}")
    exceptions = _exceptions(arguments, "security.canary-files")
    hits = [hit for path in done.stdout.splitlines() for hit in _in_file(path, sought, exceptions)]
    return judge_hits(
        hits, exceptions,
        f"{_searched(sought)} in {len(changed)} files changed since the image was made",
    )  # fmt: skip


def _in_file(path: str, sought: Mapping[bytes, str], exceptions: list[Any]) -> list[Hit]:
    """Say which secrets a file holds; looked up only where it may matter."""
    if not any(exception["place"] in path for exception in exceptions):
        return [Hit("a secret", path)]
    try:
        with open(path, "rb") as stream:
            return find({path: stream.read()}, sought)
    except OSError:
        return [Hit("a secret", path)]


@check("security.canary-processes", phase="security",
       title="no process of the guest carries a secret in argv or environment", timeout=60,
       arguments=_secrets)  # fmt: skip
def processes(arguments: Mapping[str, Any], system: System) -> Verdict:
    """No process carries a secret in its arguments or environment."""
    sought = _sought(arguments, system)
    if not sought:
        return skipped(ABSENT)
    texts = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for part in ("cmdline", "environ"):
            try:
                with open(f"/proc/{pid}/{part}", "rb") as stream:
                    text = stream.read()
                with open(f"/proc/{pid}/cgroup", encoding="utf-8") as stream:
                    group = stream.read().strip().rpartition(":")[2]
            except OSError:
                continue
            texts[f"{part} of process {pid} in {group}"] = text
    exceptions = _exceptions(arguments, "security.canary-processes")
    return judge_hits(
        find(texts, sought), exceptions, f"{_searched(sought)} in {len(texts)} places"
    )


@check("security.canary-journal", phase="security", title="the guest's journal holds no secret",
       timeout=60, arguments=_secrets)  # fmt: skip
def journal(arguments: Mapping[str, Any], system: System) -> Verdict:
    """No message and no logged command line in the journal holds a secret."""
    sought = _sought(arguments, system)
    if not sought:
        return skipped(ABSENT)
    argv = ["journalctl", "-q", "-a", "--no-pager", "-o", "cat"]
    done = run([*argv, "--output-fields=MESSAGE,_CMDLINE"], arguments["timeout"])
    if done.returncode != 0:
        return errored(f"journalctl: {done.stderr.strip()[-200:]}")
    size = len(done.stdout) // 1024
    hits = find({"the journal": done.stdout.encode()}, sought)
    return judge_hits(hits, [], f"{_searched(sought)} in {size} KiB")


class Hit(namedtuple("Hit", ("secret", "place"))):
    """A secret's name, and where it was found: a file, or a process with its control group."""

    __slots__ = ()
    secret: str
    place: str

    def __str__(self) -> str:
        """Return it as a sentence."""
        return f"{self.secret} is in {self.place}"


def find(texts: Mapping[str, bytes], sought: Mapping[bytes, str]) -> list[Hit]:
    """Return where which secret was found, by name."""
    hits = {
        Hit(name, place) for place, text in texts.items() for form, name in sought.items()
        if form in text
    }  # fmt: skip
    return sorted(hits)


def _exceptions(arguments: Mapping[str, Any], check_id: str) -> list[Any]:
    return [e for e in arguments.get("exceptions", ()) if e["check"] == check_id]


def judge_hits(hits: list[Hit], exceptions: list[Any], searched: str) -> Verdict:
    """Read where secrets were found.

    An exception of the plan names the secrets and a part of the place (of a file's path, of a
    process' control group) where nothing better can be done; it is named in the verdict.
    """

    def excepted(hit: Hit) -> bool:
        return any(hit.secret in e["secrets"] and e["place"] in hit.place for e in exceptions)

    known = sorted({f"{hit.secret} in {hit.place}" for hit in hits if excepted(hit)})
    good = f"{searched}; excepted in the plan: {', '.join(known)}" if known else searched
    return judge([str(hit) for hit in hits if not excepted(hit)], good, excepted=known)


def _searched(sought: Mapping[bytes, str]) -> str:
    return f"searched for {len(set(sought.values()))} secrets in {len(sought)} forms"
