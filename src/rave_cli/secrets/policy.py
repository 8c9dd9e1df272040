"""The policy: what `.sops.yaml` says about a secrets file, read as sops reads it.

Recipients come from here, never from the secrets file: whoever can edit that file could add one.
Source of the format: the sops documentation, "Using .sops.yaml conf".
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import age, paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import tree

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = ".sops.yaml"
_MISNAMED = ".sops.yml"  # sops warns of it and does not read it
VARIABLE = "SOPS_CONFIG"
DEFAULT_RULE = ("unencrypted_suffix", "_unencrypted")
RULE_KEYS = (
    "unencrypted_suffix",
    "encrypted_suffix",
    "unencrypted_regex",
    "encrypted_regex",
    "encrypted_comment_regex",
    "unencrypted_comment_regex",
)
_LEVELS = 100  # as far up as sops searches

# What Go's RE2 and Python's re take the same way. Groups with `?` and letters after a backslash
# differ or do not exist in one of them.
_DIFFERS = re.compile(r"\(\?|\\[^\W\d_dDsSwWbB]|\\[0-9]|[*+?}]\+|\[\[:")


@dataclass(frozen=True)
class SopsPolicy:
    """Who may read a secrets file, and which of its values are encrypted."""

    source: Path
    recipients: tuple[str, ...]
    rule: tuple[str, str] = DEFAULT_RULE
    mac_only_encrypted: bool = False


def find(file: Path) -> Path | None:
    """Return the policy that sops would use for `file`: SOPS_CONFIG, else the nearest `.sops.yaml`
    beside it or above; None if there is none.

    Raises:
        RaveError: SECRETS if SOPS_CONFIG names none, or the only one has the name that sops does
            not read.
    """
    given = os.environ.get(VARIABLE, "")
    if given and not Path(given).exists():
        raise RaveError(
            f"{VARIABLE} names {given}, which does not exist",
            hint=f"set {VARIABLE} to the policy, or unset it: env -u {VARIABLE} rave secrets …",
            exit_code=ExitCode.SECRETS,
        )
    if given:
        return Path(given).absolute()
    places = list(file.absolute().parents)[:_LEVELS]
    found = next((place / NAME for place in places if (place / NAME).exists()), None)
    misnamed = next((place / _MISNAMED for place in places if (place / _MISNAMED).exists()), None)
    if found is None and misnamed is not None:
        raise RaveError(
            f"there is no {NAME} for {file}, only {misnamed}, which sops does not read",
            hint=f"mv {misnamed} {misnamed.with_name(NAME)}",
            exit_code=ExitCode.SECRETS,
        )
    return found


def load(file: Path) -> SopsPolicy:
    """Return the policy for a secrets file.

    Raises:
        RaveError: SECRETS if there is none, somebody else may have written it, it has no rule for
            the file, or is not understood; HOST if it cannot be read.
    """
    source = find(file)
    if source is None:
        raise RaveError(
            f"there is no {NAME} beside {file} or above it, so nobody knows who may read it",
            hint="rave secrets init",
            exit_code=ExitCode.SECRETS,
        )
    text = paths.read_trusted(source, exit_code=ExitCode.SECRETS)
    return parse(text, source=source, file=file)


def parse(text: bytes, *, source: Path, file: Path) -> SopsPolicy:
    """Read the first rule of a `.sops.yaml` that matches `file`.

    Raises:
        RaveError: SECRETS if there is none, or it asks for something rave does not check.
    """
    try:
        rules = tree.parse(text).entries.get("creation_rules")
    except tree.TreeError as error:
        raise _refused(source, str(error)) from error
    if not isinstance(rules, tree.Sequence):
        raise _refused(source, "it has no list creation_rules")
    relative = _relative(file.absolute(), source.absolute().parent)
    for rule in rules.items:
        if not isinstance(rule, tree.Map):
            raise _refused(source, f"line {rule.line}: a rule is not a map")
        if _matches(rule, relative, source):
            return _policy(rule, source)
    raise _refused(source, f"no rule matches {relative}")


def render(recipients: Sequence[str], file_name: str) -> bytes:
    """Return a `.sops.yaml` that lets `recipients` read the file of that name beside it."""
    quoted = re.escape(file_name).replace("'", "''")
    listed = "".join(f"\n      {recipient}," for recipient in recipients).rstrip(",")
    return (
        "# Who may read the secrets file. rave takes recipients from here alone; after a change:\n"
        "# rave secrets edit\n"
        "creation_rules:\n"
        f"  - path_regex: '^{quoted}$'\n"
        f"    age: >-{listed}\n"
    ).encode()


def _relative(file: Path, place: Path) -> str:
    """Return the path that the rules of a policy in `place` see."""
    return (file.relative_to(place) if file.is_relative_to(place) else file).as_posix()


def _matches(rule: tree.Map, relative: str, source: Path) -> bool:
    if "filename_regex" in rule.entries:
        raise _refused(source, f"line {rule.line}: filename_regex is not supported")
    pattern = rule.text("path_regex")
    if pattern is None:
        if "path_regex" in rule.entries:
            raise _refused(source, f"line {rule.line}: path_regex is not text")
        return True
    if _DIFFERS.search(pattern):
        raise _refused(
            source, f"line {rule.line}: sops and rave could read this path_regex differently"
        )
    try:
        return re.search(pattern, relative, re.ASCII) is not None
    except re.error as error:
        raise _refused(source, f"line {rule.line}: path_regex: {error.msg}") from error


def _policy(rule: tree.Map, source: Path) -> SopsPolicy:
    known = {"path_regex", "age", "mac_only_encrypted", *RULE_KEYS}
    unknown = sorted(set(rule.entries) - known)
    if unknown:
        raise _refused(source, f"line {rule.line}: rave does not check {unknown[0]}")
    chosen = [(key, rule.text(key) or "") for key in RULE_KEYS if key in rule.entries]
    if len(chosen) > 1 or any(not value for _, value in chosen):
        raise _refused(source, f"line {rule.line}: it needs one of {', '.join(RULE_KEYS)} at most")
    return SopsPolicy(
        source=source,
        recipients=_recipients(rule, source),
        rule=chosen[0] if chosen else DEFAULT_RULE,
        mac_only_encrypted=_switch(rule, "mac_only_encrypted", source),
    )


def _switch(rule: tree.Map, key: str, source: Path) -> bool:
    """Read a truth value as YAML 1.1 and 1.2 both do; sops's reader knows more spellings."""
    if key not in rule.entries:
        return False
    text = rule.text(key)
    if text not in {"true", "false"}:
        raise _refused(source, f"line {rule.line}: {key} is neither true nor false")
    return text == "true"


def _recipients(rule: tree.Map, source: Path) -> tuple[str, ...]:
    node = rule.entries.get("age")
    items = node.items if isinstance(node, tree.Sequence) else (node,) if node else ()
    if not all(isinstance(item, tree.Scalar) for item in items):
        raise _refused(source, f"line {rule.line}: a recipient is not text")
    texts = [item.text for item in items if isinstance(item, tree.Scalar)]
    listed = [part.strip() for text in texts for part in text.split(",")]
    recipients = [recipient for recipient in listed if recipient]
    if not recipients:
        raise _refused(source, f"line {rule.line}: it names no age recipient")
    if len(set(recipients)) < len(recipients):
        raise _refused(source, f"line {rule.line}: a recipient is there twice")
    for recipient in recipients:
        if recipient.startswith("ssh-"):
            raise _refused(
                source,
                f"line {rule.line}: ssh recipients are refused, because sops-nix cannot use them",
            )
        fault = age.check_recipient(recipient)
        if fault is not None:
            raise _refused(source, f"line {rule.line}: recipient {recipient[:16]}…: {fault}")
    return tuple(recipients)


def _refused(source: Path, why: str) -> RaveError:
    return RaveError(
        f"{source}: {why}", hint=f"correct {source}, then: rave secrets validate",
        exit_code=ExitCode.SECRETS,
    )  # fmt: skip
