"""The import contracts of pyproject.toml see every import; what could evade them is refused."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import click

from rave_cli import app
from rave_cli.lazy import LazyGroup

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]

# Who may import a module by a name that only exists when the program runs, and why.
DYNAMIC = {
    "rave_cli/lazy.py",  # commands, so that `rave --help` stays fast
    "rave_guest/registry.py",  # checks and services, so that a guest imports what is asked alone
}


def dynamic_imports(tree: ast.AST) -> list[str]:
    names = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if alias.name.split(".")[0] in {"importlib", "runpy", "pkgutil", "import_module"}
    ]
    names += [
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id in {"__import__", "exec", "eval"}
    ]
    return names


def test_nobody_else_imports_by_a_name_that_the_contracts_cannot_see() -> None:
    users = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if dynamic_imports(ast.parse(path.read_text()))
    }
    assert users == DYNAMIC


def test_what_a_group_imports_late_is_in_its_own_room() -> None:
    def strangers(group: LazyGroup, room: str) -> list[str]:
        found = [one.target for one in group.lazy.values() if not one.target.startswith(room)]
        for name, entry in group.lazy.items():
            below = group.get_command(click.Context(group), name)
            if isinstance(below, LazyGroup):
                found += strangers(below, entry.target.partition(":")[0] + ".")
        return found

    assert isinstance(app.cli, LazyGroup)
    assert strangers(app.cli, "rave_cli.commands.") == []


def test_the_contracts_leave_nothing_out() -> None:
    assert not SETTINGS.get("exclude_type_checking_imports", False)
    for contract in SETTINGS["contracts"]:
        assert "ignore_imports" not in contract, contract["name"]
        if contract["type"] == "layers":
            assert contract["exhaustive"], contract["name"]


def test_no_circle_is_allowed_in_any_program() -> None:
    (acyclic,) = [c for c in SETTINGS["contracts"] if c["type"] == "acyclic_siblings"]
    assert set(acyclic["ancestors"]) == {"rave_cli", "rave_guest", "rave_platform"}


# What one side says and the other reads: one meaning on both sides of the door, as the guest's
# answers and the traces that pool and platform keep.
SHARED = {"InstallRequest", "Proof", "Span", "TraceContext", "Verdict"}


def public_classes() -> list[tuple[str, str]]:
    return [
        (node.name, str(path.relative_to(SOURCE)))
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]


def test_a_word_has_one_meaning() -> None:
    places: dict[str, list[str]] = {}
    for name, place in public_classes():
        places.setdefault(name, []).append(place)
    assert {n: p for n, p in places.items() if len(p) > 1 and n not in SHARED} == {}


def test_the_glossary_says_what_the_words_of_several_packages_mean() -> None:
    page = (ROOT / "docs/explanation/architecture.md").read_text()
    glossary = page.partition("## Words")[2]
    names = {name for name, _ in public_classes()}
    for line in (line for line in glossary.splitlines() if line.startswith("| `")):
        for word in re.findall(r"`(\w+)`", line.split("|")[1]):
            assert word in names, f"{word} is in the glossary and nowhere in the code"
