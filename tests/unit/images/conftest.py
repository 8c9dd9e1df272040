"""A host made of fakes: nix, nix-store and apt-get as programs whose behaviour a test sets."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rave_cli.images import archives, files, locking
from rave_cli.images import lock as locks
from rave_cli.images.archives import Sources
from rave_cli.images.carried import CARRIED, Carried
from rave_cli.images.closure import Supply
from rave_cli.images.lock import Archive, File, Lock, Package, PackageRequest
from rave_cli.profiles.catalog import Plan, parse
from rave_cli.profiles.names import BAKED

KEYS = Path(__file__).resolve().parents[3] / "infra/debian/keys"
ARCHIVE = Archive(
    name="debian", suites=("bookworm",), keys=("B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8",)
)

# Each logs its call as a JSON line; `behaviour.json` beside it says what it does.
FAKE = """#!{python}
import hashlib, json, os, pathlib, sys, time
here = pathlib.Path(__file__).parent
name, words = pathlib.Path(__file__).name, sys.argv[1:]
behaviour = json.loads((here / "behaviour.json").read_text())
with open(here / "calls.jsonl", "a") as calls:
    env = {{key: os.environ.get(key) for key in ("RAVE_DEBIAN_LOCK", "TMPDIR")}}
    calls.write(json.dumps({{"tool": name, "words": words, "env": env}}) + "\\n")
{body}
"""

FAKE_NIX = """
verb = words[0]
if verb == "--offline" or words[-1].endswith("#profileMetadata"):
    print(pathlib.Path(behaviour["catalog"]).read_text())
elif verb == "eval":
    print(json.dumps(behaviour["eval"]))
elif verb == "show-config":
    features = {"value": behaviour["features"]}
    print(json.dumps({"system-features": features, "builders": {"value": behaviour["builders"]}}))
elif verb == "path-info":
    what = words[-1]
    path = behaviour["output"] if "#" in what else what
    built = pathlib.Path(path).is_dir()
    known = {"narHash": "sha256-" + "A" * 43 + "="}
    record = {"path": path} | (known if built else {"valid": False})
    print(json.dumps([record]))
elif verb == "build":
    for line in behaviour["log"]:
        sys.stderr.write(line + "\\n")
        sys.stderr.flush()
    time.sleep(behaviour["seconds"])
    if behaviour["fails"]:
        sys.exit(1)
    out = pathlib.Path(behaviour["output"])
    out.mkdir(parents=True, exist_ok=True)
    for file, text in behaviour["files"].items():
        (out / file).write_text(text)
    link = pathlib.Path(words[words.index("--out-link") + 1])
    link.unlink(missing_ok=True)
    link.symlink_to(out)
"""

FAKE_NIX_STORE = """
if behaviour["store-fault"]:
    sys.stderr.write(behaviour["store-fault"])
    sys.exit(1)
if words[0] == "--repair-path":
    for file, text in behaviour["files"].items():
        (pathlib.Path(words[1]) / file).write_text(text)
"""

FAKE_APT = """
words = words[3:]
verb, rest = words[0], [word for word in words[1:] if not word.startswith("--")]
offered = behaviour["offered"]
if verb == "update" and behaviour["hiccup"] and not (here / "hiccup").exists():
    (here / "hiccup").touch()
    sys.stderr.write("E: Failed to fetch http://m/InRelease  Hash Sum mismatch\\n")
    sys.exit(100)
if verb in behaviour["apt-fault"]:
    sys.stderr.write(behaviour["apt-fault"][verb])
    sys.exit(100)
if verb == "update":
    lists = here.parent / "home/.cache/rave/debian/apt/state/lists"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / "mirror_Packages").touch()
elif verb == "install":
    for name, version in offered.items():
        if name in rest:
            label = "Debian-Security" if name in behaviour["security"] else "Debian"
            print(f"Inst {name} ({version} {label}:12.1/stable [amd64])")
elif verb == "download" and behaviour["stale-lists"] and not (here / "once").exists():
    (here / "once").touch()
    sys.stderr.write("E: Failed to fetch http://m/bash.deb  404  Not Found\\n")
    sys.exit(100)
elif verb == "download" and "--print-uris" in words:
    for name, version in (word.split("=", 1) for word in rest):
        file = f"{name}_{version.replace(':', '%3a')}_amd64.deb"
        digest = hashlib.sha256(behaviour["debs"][name].encode()).hexdigest()
        print(f"'http://m/{name}.deb' {file} 7 SHA256:{digest}")
elif verb == "download":
    wanted = [word.split("=", 1) for word in rest]
    missing = [(name, version) for name, version in wanted if offered.get(name) != version]
    for name, version in missing:
        sys.stderr.write(f"E: Version '{version}' for '{name}' was not found\\n")
    if missing:
        sys.exit(100)
    for number, (name, version) in enumerate(wanted, start=1):
        print(f"Get:{number} mirror bookworm/main amd64 {name} amd64 {version} [1 kB]")
        file = f"{name}_{version.replace(':', '%3a')}_amd64.deb"
        pathlib.Path(file).write_bytes(behaviour["debs"][name].encode())
"""


def deb(name: str, version: str, built: int = 1_700_000_000) -> str:
    """Return the start of a Debian package: the ar header that tells when it was built."""
    return f"!<arch>\ndebian-binary   {built:<12}0     0     100644  4         `\n{name} {version}"


def sha256(text: str) -> str:
    """Return the sha256 of text in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Host:
    """The fake host: where its tools are, and what they do."""

    folder: Path

    def set(self, **changes: Any) -> None:
        """Change the tools' behaviour; `_` in a name stands for `-`."""
        place = self.folder / "behaviour.json"
        known = json.loads(place.read_text())
        place.write_text(json.dumps(known | {k.replace("_", "-"): v for k, v in changes.items()}))

    def calls(self, tool: str) -> list[dict[str, Any]]:
        """Return the calls of a tool so far."""
        place = self.folder / "calls.jsonl"
        lines = place.read_text().splitlines() if place.exists() else []
        return [call for call in map(json.loads, lines) if call["tool"] == tool]

    def verbs(self, tool: str) -> list[str]:
        """Return the first word of each call of a tool."""
        first = 3 if tool == "apt-get" else 0
        return [call["words"][first] for call in self.calls(tool)]

    def remove(self, tool: str) -> None:
        """Take a tool away."""
        (self.folder / tool).unlink()


@pytest.fixture
def host(home: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host with fake nix, nix-store and apt-get, and nothing else but the basics on PATH."""
    folder = home.parent / "bin"
    folder.mkdir()
    python = os.path.realpath("/proc/self/exe")
    for name, body in {
        "nix": FAKE_NIX, "nix-store": FAKE_NIX_STORE, "apt-get": FAKE_APT,
    }.items():  # fmt: skip
        path = folder / name
        path.write_text(FAKE.format(python=python, body=body))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    for basic in ("setpriv", "sh"):
        (folder / basic).symlink_to(f"/usr/bin/{basic}")
    output = home.parent / "store" / "hash-rave-debian-image-demo"
    (folder / "behaviour.json").write_text(
        json.dumps({
            "eval": {
                "archives": [ARCHIVE.model_dump(mode="json")],
                "guest": ["bash"], "kernel": "linux-image-cloud-amd64", "tools": ["tcc"],
            },
            "output": str(output), "catalog": str(BAKED),
            "log": [], "seconds": 0, "fails": False, "store-fault": "", "apt-fault": {},
            "stale-lists": False, "hiccup": False, "security": [],
            "features": ["benchmark", "kvm"], "builders": "",
            "files": {
                "rave-demo-debian.qcow2": "an image", "vmlinuz": "kernel", "initrd": "initrd",
                "boot.json": json.dumps({"kind": "kernel", "cmdline": "root=/dev/vda"}),
                "plan.json": CARRIED.render(Carried(door=2, plan=baked_plan())).decode(),
            },
            "offered": {"bash": "1:5.2-1", "linux-image-6.1-cloud-amd64": "6.1~1", "tcc": "0.9"},
            "debs": {
                "bash": deb("bash", "1:5.2-1"),
                "linux-image-6.1-cloud-amd64": deb("linux", "6.1~1", 1_700_000_500),
                "tcc": deb("tcc", "0.9"),
            },
        })
    )  # fmt: skip
    monkeypatch.setenv("PATH", str(folder))
    sops = home.parent / "sops"
    sops.write_bytes(b"\x7fELF sops")
    monkeypatch.setattr(files, "installed", lambda _: (sops, "3.11.0"))
    monkeypatch.setattr(archives, "HOST_SOURCES", home / "no-apt")
    return Host(folder)


def baked_plan() -> Plan:
    """Return the plan of the demo profile on the Debian base."""
    return parse(BAKED.read_bytes()).plan("demo", "debian")


@pytest.fixture
def plan() -> Plan:
    """The plan of the demo profile on the Debian base."""
    return baked_plan()


@pytest.fixture
def locked() -> Lock:
    """The lock of what the fake apt offers."""
    request = PackageRequest(
        archives=(ARCHIVE,), guest=("bash",), kernel="linux-image-cloud-amd64", tools=("tcc",)
    )
    sops = File(
        kind="program", name="sops", version="3.11.0", file="sops-3.11.0",
        sha256=hashlib.sha256(b"\x7fELF sops").hexdigest(),
    )  # fmt: skip
    package = Package(
        name="bash", version="1:5.2-1", architecture="amd64", file="bash_1-5.2-1_amd64.deb",
        sha256=sha256(deb("bash", "1:5.2-1")), role="essential",
    )  # fmt: skip
    return Lock(epoch=1_700_000_000, requested=request, packages=(package,), files=(sops,))


@pytest.fixture
def flake(tmp_path: Path, locked: Lock) -> Path:
    """A flake's directory with the lock of the demo profile."""
    folder = tmp_path / "checkout"
    place = locking.repository_lock(folder, "demo")
    place.parent.mkdir(parents=True)
    (folder / "flake.nix").touch()
    shutil.copytree(KEYS, folder / "infra/debian/keys")
    place.write_bytes(locks.render(locked))
    return folder


@pytest.fixture
def supply() -> Supply:
    """Packages from wherever this host would get them, believed by the repository's keys."""
    return Supply(KEYS, Sources())
