"""The repository stays clean: no built, logged or secret thing beside source; docs are current."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FORBIDDEN_NAMES = re.compile(
    r"\.(qcow2|raw|img|iso|log|sock|pid|sqlite|db|key|pem|p12|age)$|(^|/)(\.env|keys\.txt|id_\w+)$"
)
FORBIDDEN_CONTENT = re.compile(
    rb"AGE-SECRET-KEY-1[A-Z0-9]{58}"
    rb"|-----BEGIN (OPENSSH |RSA |EC )?PRIVATE KEY-----\n[A-Za-z0-9+/]{40}"
)
TOP_LEVEL = {
    ".ci", ".gitignore", ".gitlab-ci.yml", "CHANGELOG.md", "LICENSE", "Makefile", "README.md",
    "artifacts", "benchmarks", "docs", "flake.lock", "flake.nix", "infra", "pyproject.toml",
    "requirements", "src", "tests",
}  # fmt: skip


def tracked() -> list[Path]:
    done = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
    )
    return [ROOT / name for name in done.stdout.decode().split("\0") if name]


FILES = [path for path in tracked() if path.is_file()]


def test_nothing_built_logged_or_secret_lies_beside_source() -> None:
    names = [str(path.relative_to(ROOT)) for path in FILES]
    assert [name for name in names if FORBIDDEN_NAMES.search(name)] == []
    assert [name for name in names if name.startswith("artifacts/")] == ["artifacts/README.md"]


def test_no_secret_stands_in_a_file() -> None:
    assert [path for path in FILES if FORBIDDEN_CONTENT.search(path.read_bytes())] == []


def test_files_are_small() -> None:
    large = {
        str(p.relative_to(ROOT)): p.stat().st_size for p in FILES if p.stat().st_size > 400_000
    }
    assert large == {}


def test_the_top_level_is_what_was_agreed() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in FILES} <= TOP_LEVEL


@pytest.mark.parametrize("name", ["run.txt", "platform.txt", "dev.txt"])
def test_the_lock_pins_hashes_and_names_no_address(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    packages = re.findall(r"^([a-z0-9.-]+)(?:\[[a-z,-]+\])?==\S+ \\$", text, re.MULTILINE)
    assert len(packages) > 10
    assert len(packages) == len(re.findall(r"^[a-z]", text, re.MULTILINE))
    for block in re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block
    assert "://" not in text


def pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / name).read_text()
    return dict(re.findall(r"^([a-z0-9.-]+)(?:\[[a-z,-]+\])?==(\S+) \\$", text, re.MULTILINE))


def test_what_is_locked_twice_is_locked_alike() -> None:
    dev = pins("dev.txt")
    for name in ("run.txt", "platform.txt"):
        assert pins(name).items() <= dev.items(), name


def test_every_package_is_in_the_wheel_and_what_each_needs_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert wheel == sorted(f"src/{place.parent.name}" for place in ROOT.glob("src/*/__init__.py"))
    for asked, name in (
        (project["project"]["dependencies"], "run.txt"),
        (project["dependency-groups"]["platform"], "platform.txt"),
    ):
        assert {re.split(r"[><=]", line)[0] for line in asked} <= set(pins(name))


def test_generated_pages_are_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs/generate.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
