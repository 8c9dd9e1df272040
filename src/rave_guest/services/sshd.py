"""OpenSSH: its banner, and the settings it really runs with."""

from __future__ import annotations

from rave_guest.check import check
from rave_guest.plan import port
from rave_guest.questions import Question
from rave_guest.verdict import Verdict, failed, judge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rave_guest.system import System

# sshd_config(5), as `sshd -T` prints the values in force.
SSHD = {
    "passwordauthentication": {"no"},
    "kbdinteractiveauthentication": {"no"},
    "permitemptypasswords": {"no"},
    "permitrootlogin": {"no"},
    "pubkeyauthentication": {"yes"},
    "hostbasedauthentication": {"no"},
    "x11forwarding": {"no"},
    "permituserenvironment": {"no"},
    "strictmodes": {"yes"},
}
SSHD_MOST = {"maxauthtries": 6, "logingracetime": 60}


# Seconds for which its banner is good: for each visitor it starts its program anew, which takes an
# emulated processor a quarter of a second.
BANNER_HOLDS = 290.0


def alive(record: Mapping[str, Any]) -> list[Question]:
    """OpenSSH's banner. It gets one in return, as it logs an error about a silent visitor."""
    address = ("127.0.0.1", port(record, "ssh"))
    hello = b"SSH-2.0-"
    greeting = hello + b"rave\r\n"
    return [
        Question("banner", address, greeting, lambda a: a.startswith(hello), holds=BANNER_HOLDS)
    ]


@check("security.sshd", phase="security", title="sshd runs with keys only and no root")
def settings(arguments: Mapping[str, Any], system: System) -> Verdict:
    """The settings sshd really runs with: keys only, no root, nothing forwarded to X."""
    done = system.run(["sshd", "-T"], arguments["timeout"])
    if done.returncode != 0:
        return failed(f"sshd -T: {done.stderr.strip()[:200]}")
    return judge_sshd(keywords(done.stdout))


def judge_sshd(found: Mapping[str, list[str]]) -> Verdict:
    """Compare `sshd -T` with the rules."""
    problems = []
    for name, allowed in SSHD.items():
        value = found.get(name, ["unset"])[-1]
        if value not in allowed:
            problems.append(f"{name} is {value}")
    for name, most in SSHD_MOST.items():
        value = found.get(name, ["unset"])[-1]
        if not value.isdigit() or not 0 < int(value) <= most:
            problems.append(f"{name} is {value}, more than {most}")
    return judge(problems, f"{len(SSHD) + len(SSHD_MOST)} settings as they must be")


def keywords(text: str) -> dict[str, list[str]]:
    """Read `sshd -T`: lower-case keyword, then the value; a keyword may come several times."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, _, value = line.strip().partition(" ")
        if name:
            found.setdefault(name.lower(), []).append(value.strip())
    return found
