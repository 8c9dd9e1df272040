"""The policy: what `.sops.yaml` says about a secrets file, read as sops reads it.

Recipients come from here, never from the secrets file: whoever can edit that file could add one.
Source of the format: the sops documentation, "Using .sops.yaml conf".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli import age, paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import tree

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NAME = ".sops.yaml"
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
class Policy:
    """Who may read a secrets file, and which of its values are encrypted."""

    source: Path
    recipients: tuple[str, ...]
    rule: tuple[str, str] = DEFAULT_RULE
    mac_only_encrypted: bool = False


def find(file: Path) -> Path | None:
    """Return the `.sops.yaml` that sops would use for `file`, or None."""
    places = list(file.absolute().parents)[:_LEVELS]
    return next((place / NAME for place in places if (place / NAME).is_file()), None)


def load(file: Path) -> Policy:
    """Return the policy for a secrets file.

    Raises:
        RaveError: SECRETS if there is none, it has no rule for the file, or is not understood.
    """
    source = find(file)
    if source is None:
        raise RaveError(
            f"there is no {NAME} beside {file} or above it, so nobody knows who may read it",
            hint="rave secrets init",
            exit_code=ExitCode.SECRETS,
        )
    with paths.refusing(source):
        text = source.read_bytes()
    return parse(text, source=source, file=file)


def parse(text: bytes, *, source: Path, file: Path) -> Policy:
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
    relative = file.absolute().relative_to(source.absolute().parent).as_posix()
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


def _policy(rule: tree.Map, source: Path) -> Policy:
    known = {"path_regex", "age", "mac_only_encrypted", *RULE_KEYS}
    unknown = sorted(set(rule.entries) - known)
    if unknown:
        raise _refused(source, f"line {rule.line}: rave does not check {unknown[0]}")
    chosen = [(key, rule.text(key) or "") for key in RULE_KEYS if key in rule.entries]
    if len(chosen) > 1 or any(not value for _, value in chosen):
        raise _refused(source, f"line {rule.line}: it needs one of {', '.join(RULE_KEYS)} at most")
    return Policy(
        source=source,
        recipients=_recipients(rule, source),
        rule=chosen[0] if chosen else DEFAULT_RULE,
        mac_only_encrypted=rule.text("mac_only_encrypted") == "true",
    )


def _recipients(rule: tree.Map, source: Path) -> tuple[str, ...]:
    node = rule.entries.get("age")
    if isinstance(node, tree.Scalar):
        listed = [part.strip() for part in node.text.split(",")]
    elif isinstance(node, tree.Sequence):
        listed = [item.text.strip() for item in node.items if isinstance(item, tree.Scalar)]
    else:
        listed = []
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
