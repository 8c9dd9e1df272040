"""Evaluates the NixOS base at three depths, by what the environment offers.

| depth | needs | real in it |
|---|---|---|
| offline | Nix | every file parses, the catalog, the lock, the offline outputs |
| lib | RAVE_NIXPKGS_LIB, RAVE_SOPS_NIX | our options, types, assertions, units; sops-nix |
| nixpkgs | RAVE_NIXPKGS, RAVE_SOPS_NIX | all of that, and every upstream option and package |

RAVE_NIXPKGS_LIB is nixpkgs' `lib` directory, RAVE_NIXPKGS a complete nixpkgs, RAVE_SOPS_NIX a
checkout of sops-nix. RAVE_NIX_INSTANTIATE names the `nix-instantiate` for the last depth: nixpkgs
wants Nix 2.18 or newer.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PROFILES = ("demo", "development", "production")
MODES = ("safe", "full")
NIX_CONFIG = "experimental-features = nix-command flakes\nsubstituters =\nbuild-users-group =\n"


class EvaluationError(Exception):
    """Nix refused; the message is what it said."""


def nix(*argv: str, timeout: float = 300, **env: str) -> str:
    """Run a Nix program, with `env` beside our environment, and return what it printed.

    Raises:
        EvaluationError: it failed.
    """
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=timeout, check=False, cwd=ROOT,
        env=os.environ | {"NIX_CONFIG": NIX_CONFIG} | env,
    )  # fmt: skip
    if done.returncode:
        raise EvaluationError(done.stderr)
    return done.stdout


@dataclass(frozen=True)
class Evaluator:
    """One way to evaluate a profile; `arguments` are those of its harness."""

    name: str
    harness: Path
    lib: str
    arguments: str
    instantiate: str = "nix-instantiate"
    root: Path = ROOT
    seen: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def expression(self, profile: str, mode: str, modules: str) -> str:
        """Return the Nix expression of an evaluated configuration."""
        return (
            f"import {self.harness} {{ {self.arguments} root = {self.root};"
            f' profile = "{profile}"; mode = "{mode}"; modules = [ {modules} ]; }}'
        )

    def ask(self, question: str, profile: str, mode: str = "safe", modules: str = "") -> Any:
        """Evaluate a Nix expression in which `config`, `options` and `lib` are a machine's."""
        whole = (
            f"let lib = import {self.lib};"
            f" inherit ({self.expression(profile, mode, modules)}) config options; in {question}"
        )
        return json.loads(nix(self.instantiate, "--eval", "--strict", "--json", "-E", whole))

    def report(self, profile: str, mode: str = "safe", modules: str = "") -> dict[str, Any]:
        """Return report.nix of a machine; the same machine is evaluated once."""
        question = f"import {HERE}/report.nix {{ inherit lib config; }}"
        if modules:
            return dict(self.ask(question, profile, mode, modules))
        if (profile, mode) not in self.seen:
            self.seen[profile, mode] = dict(self.ask(question, profile, mode))
        return self.seen[profile, mode]

    def outputs(self) -> dict[str, Any]:
        """Return the flake's outputs as derivation paths; needs a complete nixpkgs."""
        expression = f"import {HERE}/outputs.nix {{ {self.arguments} root = {ROOT}; }}"
        argv = [self.instantiate, "--eval", "--strict", "--json", "-E", expression]
        return dict(json.loads(nix(*argv, timeout=560)))


def place(variable: str) -> Path:
    """Return the directory that a variable names, or skip the test and say why."""
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set: the NixOS base was NOT evaluated at this depth")
    path = Path(value).resolve()
    if not path.is_dir():
        pytest.fail(f"{variable} names no directory: {path}")
    return path


@pytest.fixture(scope="session")
def with_lib() -> Evaluator:
    path = place("RAVE_NIXPKGS_LIB")
    sops_nix = place("RAVE_SOPS_NIX")
    arguments = f"libPath = {path}; sopsNix = {sops_nix};"
    return Evaluator("lib", HERE / "with-lib.nix", str(path), arguments)


@pytest.fixture(scope="session")
def with_nixpkgs() -> Evaluator:
    path = place("RAVE_NIXPKGS")
    sops_nix = place("RAVE_SOPS_NIX")
    program = os.environ.get("RAVE_NIX_INSTANTIATE", "nix-instantiate")
    arguments = f"nixpkgs = {path}; sopsNix = {sops_nix};"
    return Evaluator("nixpkgs", HERE / "with-nixpkgs.nix", f"{path}/lib", arguments, program)


@pytest.fixture(scope="session", params=["lib", "nixpkgs"])
def evaluator(request: pytest.FixtureRequest) -> Evaluator:
    """Each depth that evaluates modules."""
    found: Evaluator = request.getfixturevalue(f"with_{request.param}")
    return found


@pytest.fixture(autouse=True, scope="session")
def _has_nix() -> None:
    if shutil.which("nix-instantiate") is None:
        pytest.skip("there is no nix-instantiate on PATH")
