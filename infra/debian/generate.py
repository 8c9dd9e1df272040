"""Writes into the new root what follows from the plan, when the image is built.

Usage: generate.py ROOT

Beside this program lie `templates/` of the foundation and, for each service of the plan,
`services/<id>/` with one or both of:

    templates/    files of the root in which @name@ stands for a fact (@redis.maxMemoryMiB.safe@)
                  or a port (@ports.redis.redis@)
    generate.py   `files(plan) -> {path: text}`, for what is more than values in a text

All of it is a pure function of the plan, so that one plan gives one image. Nothing of it stays in
the guest.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
PLAN = "usr/lib/rave/plan.json"
UNITS = "etc/systemd/system"
MODES = "usr/lib/rave/modes"
WANTS = f"{UNITS}/multi-user.target.wants"
GO_SHARE = 0.8  # of a cap: where Go collects harder
HIGH_SHARE = 0.9  # of a cap: where the kernel throttles
NAME = re.compile(r"@([a-z][\w-]*(?:\.[\w-]+)*)@")


class Configuration(NamedTuple):
    """Paths without a leading slash: texts of files, targets of links, and which files run."""

    files: dict[str, str]
    links: dict[str, str]
    programs: frozenset[str]


def configuration(plan: dict[str, Any], place: Path = HERE) -> Configuration:
    """All that follows from a plan.

    Args:
        plan: the plan, as plan.json has it.
        place: directory with `templates` and `services`.

    Raises:
        KeyError: a template names a fact or port that there is not.
        ValueError: two parts write the same file.
    """
    files = foundation(plan)
    programs: set[str] = set()
    for part in [place, *(place / "services" / service for service in sorted(plan["services"]))]:
        for path, (text, runs) in templates(part / "templates", values(plan)).items():
            add(files, path, text)
            programs |= {path} if runs else set()
        if part != place and (part / "generate.py").exists():
            for path, text in load(part / "generate.py").files(plan).items():
                add(files, path, text)
    return Configuration(files, links(plan, files), frozenset(programs))


def add(files: dict[str, str], path: str, text: str) -> None:
    """Add a file; two parts that write the same one contradict each other."""
    if path in files:
        raise ValueError(f"{path} is written twice")
    files[path] = text


def foundation(plan: dict[str, Any]) -> dict[str, str]:
    """The files of every guest: limits of the units, sudo, the kernel's settings."""
    files = {
        "etc/sudoers.d/rave": sudoers(plan["facts"]["sudo"]),
        # After 99-protect-links.conf of Debian, which is laxer.
        "etc/sysctl.d/99-rave.conf": sysctl(plan["facts"]["sysctl"]),
    }
    for service in plan["services"].values():
        for unit in map(process, service["units"]):
            drop_in = f"{unit}.d/50-limits.conf"
            files[f"{UNITS}/{drop_in}"] = limits(service)
            files[f"{MODES}/full/{unit}.d/60-limits.conf"] = memory(service["memory"]["full"])
    return files


def process(unit: str) -> str:
    """The unit of the processes: of a socket the service that it starts (systemd.socket(5))."""
    return unit.replace(".socket", ".service")


def limits(service: dict[str, Any]) -> str:
    """Drop-in with a unit's memory cap, its place in the order in which the kernel kills, and how
    late its timers may come.
    """
    slack = service["timerSlackMs"]
    late = f"TimerSlackNSec={slack}ms\n" if slack else ""
    return f"{memory(service['memory']['safe'])}OOMScoreAdjust={service['oomScore']}\n{late}"


def memory(mebibytes: int) -> str:
    """Drop-in with a unit's memory cap."""
    return (
        "[Service]\n"
        f"MemoryMax={mebibytes}M\n"
        f"MemoryHigh={int(mebibytes * HIGH_SHARE)}M\n"
        f"Environment=GOMEMLIMIT={int(mebibytes * GO_SHARE)}MiB\n"
    )


def sudoers(sudo: dict[str, list[str]]) -> str:
    """Return the settings, then the rules: what sudo reads."""
    path = 'secure_path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"'
    lines = [f"Defaults {setting}" for setting in [*sudo["defaults"], path]]
    return "".join(f"{line}\n" for line in [*lines, *sudo["rules"]])


def sysctl(settings: dict[str, int]) -> str:
    """The settings, as sysctl.d(5) has them."""
    return "".join(f"{name} = {value}\n" for name, value in sorted(settings.items()))


def links(plan: dict[str, Any], files: dict[str, str]) -> dict[str, str]:
    """What starts at boot: the units of the services, and generated ones that ask for it."""
    units = [unit for service in plan["services"].values() for unit in service["units"]]
    asking = [
        path.removeprefix(f"{UNITS}/")
        for path, text in files.items()
        if path.startswith(f"{UNITS}/") and "\nWantedBy=multi-user.target\n" in text
    ]
    return {f"{WANTS}/{unit}": f"/{UNITS}/{template(unit)}" for unit in [*units, *asking]}


def template(unit: str) -> str:
    """The file of a unit: of an instance its template's (systemd.unit(5))."""
    return re.sub(r"@.+\.", "@.", unit)


def values(plan: dict[str, Any]) -> dict[str, Any]:
    """What a template may name: the facts, and the ports of the services by service and name."""
    ports = {
        name: {port["name"]: port["port"] for port in service["ports"]}
        for name, service in plan["services"].items()
    }
    return {**plan["facts"], "ports": ports}


def templates(place: Path, known: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    """Path, filled text and whether it runs, of every template below a directory."""
    found = {}
    for path in sorted(place.rglob("*")):
        if path.is_file():
            text = fill(path.read_text(encoding="utf-8"), known)
            found[str(path.relative_to(place))] = (text, bool(path.stat().st_mode & 0o100))
    return found


def fill(text: str, known: dict[str, Any]) -> str:
    """A template with its names replaced.

    Raises:
        KeyError: a name that is not known, or does not lead to one value.
    """

    def value(found: re.Match[str]) -> str:
        node: Any = known
        for key in found[1].split("."):
            node = node.get(key) if isinstance(node, dict) else None
        if not isinstance(node, (str, int)):
            raise KeyError(f"@{found[1]}@ is no fact and no port")
        return str(node)

    return NAME.sub(value, text)


def load(program: Path) -> Any:  # noqa: ANN401 - a module
    """A service's own part, by its path."""
    name = f"generate_{program.parent.name.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(name, program)
    if spec is None or spec.loader is None:
        raise ImportError(f"{program} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(found: Configuration, root: Path) -> None:
    """Write files and links below `root`; what is there is replaced."""
    for path, text in found.files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.write_text(text, encoding="utf-8")
        place.chmod(0o755 if path in found.programs else 0o644)
    for path, target in found.links.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(target)


def main(argv: list[str]) -> int:
    """Write the configuration of the plan that lies in the root."""
    if len(argv) != 1:
        print("usage: generate.py ROOT", file=sys.stderr)
        return 2
    root = Path(argv[0])
    plan = json.loads((root / PLAN).read_text(encoding="utf-8"))
    write(configuration(plan), root)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
