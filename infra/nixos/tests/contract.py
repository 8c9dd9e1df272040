"""The contract that a guest of every base keeps. Standard library only.

Runs as root inside a guest: in the NixOS test, and over SSH in the end-to-end test of Debian.
Prints one JSON document {"broken": [sentence, ...], "base", "profile"} and exits 1 if any is.
"""

import json
import re
import stat
import subprocess
import sys
from pathlib import Path

HOME = Path("/usr/lib/rave")
LISTEN = "0A"
LOOPBACK = ("0100007F", "00000000000000000000000001000000")


def listeners() -> set[tuple[bool, int]]:
    """Return (whether on loopback alone, port) of every listening TCP socket."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not Path(table).exists():
            continue
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            address, port = fields[1].split(":")
            if fields[3] == LISTEN:
                found.add((address in LOOPBACK, int(port, 16)))
    return found


def says(*argv: str) -> str:
    """Return what a program printed, whatever its exit status."""
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def identity() -> list[str]:
    """The machine knows its name, and took its key from the credentials."""
    broken = []
    if not Path("/run/rave/instance-id").read_text().strip():
        broken.append("/run/rave/instance-id is empty")
    if not Path("/run/rave/ssh/authorized_keys").read_text().startswith("ssh-ed25519 "):
        broken.append("/run/rave/ssh/authorized_keys holds no ed25519 key")
    return broken


def programs(plan: dict[str, object]) -> list[str]:
    """The CLI finds its programs and the plan in one place."""
    broken = [f"{HOME / name} is missing" for name in ("rave-guest", "rave_guest", "sops")
              if not (HOME / name).exists()]  # fmt: skip
    broken += [f"plan.json has no {key}" for key in ("profile", "base", "services", "secrets")
               if key not in plan]  # fmt: skip
    return broken


def exposure(plan: dict[str, object]) -> list[str]:
    """Only what the plan exposes listens beyond loopback."""
    exposed = {port["port"] for port in plan["exposed"]}  # type: ignore[attr-defined]
    open_ports = {port for loopback, port in listeners() if not loopback}
    return [f"port {port} listens beyond loopback" for port in sorted(open_ports - exposed)]


def logins() -> list[str]:
    """Keys only, one account, no root."""
    wanted = {
        "passwordauthentication": "no", "kbdinteractiveauthentication": "no",
        "permitrootlogin": "no", "authenticationmethods": "publickey", "allowusers": "rave",
    }  # fmt: skip
    places = ("/run/current-system/sw/bin/sshd", "/usr/sbin/sshd")
    sshd = next(place for place in places if Path(place).exists())
    settings = dict(line.split(" ", 1) for line in says(sshd, "-T").splitlines() if " " in line)
    return [f"sshd: {key} is {settings.get(key)}, not {value}"
            for key, value in wanted.items() if settings.get(key) != value]  # fmt: skip


def passwords() -> list[str]:
    """Nobody can log in with a password."""
    rows = (line.split(":") for line in Path("/etc/shadow").read_text().splitlines())
    return [f"account {row[0]} has a password" for row in rows if re.match(r"\$|[^!*]", row[1])]


def stored_secrets() -> list[str]:
    """Secrets, if installed, are in memory and belong to their owner alone."""
    broken = []
    link = Path("/run/secrets")
    if link.is_symlink():
        for file in (path for path in link.resolve().rglob("*") if path.is_file()):
            mode = stat.S_IMODE(file.stat().st_mode)
            if mode & 0o077:
                broken.append(f"{file} has mode {mode:04o}")
        kinds = says("findmnt", "-n", "-o", "FSTYPE", "--target", str(link.resolve()))
        if kinds.strip() not in {"ramfs", "tmpfs"}:
            broken.append(f"/run/secrets is on {kinds.strip()}")
    return broken


def status(plan: dict[str, object]) -> list[str]:
    """The status document names every service of the plan that has units."""
    document = json.loads(Path("/run/rave/status.json").read_text())
    services = plan["services"]
    named = {name for name, record in services.items() if record["units"]}  # type: ignore[attr-defined]
    return [
        f"status.json does not name {name}" for name in sorted(named - set(document["services"]))
    ]


def main() -> int:
    """Check every clause and print what is broken."""
    plan = json.loads((HOME / "plan.json").read_text())
    broken = [*identity(), *programs(plan), *exposure(plan), *logins(), *passwords()]
    broken += [*stored_secrets(), *status(plan)]
    report = {"broken": broken, "base": plan["base"], "profile": plan["profile"]}
    sys.stdout.write(json.dumps(report) + "\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
