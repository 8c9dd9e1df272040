"""What can be checked of a SOPS file without any key: form, recipients, rules.

sops itself accepts several changes by somebody who can edit the file but holds no key; each has a
code here (docs/adr/0003-sops-wrapper.md lists them). Source of the format: the sops source,
`stores/` and `sops.go`.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from rave_cli import age
from rave_cli.secrets import sops, tree
from rave_cli.secrets.findings import Finding, error, warning
from rave_cli.secrets.policy import DEFAULT_RULE, RULE_KEYS, SopsPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ENCRYPTED = re.compile(
    r"ENC\[AES256_GCM,data:(?P<data>[A-Za-z0-9+/]+={0,2}),iv:(?P<iv>[A-Za-z0-9+/]{43}=),"
    r"tag:(?P<tag>[A-Za-z0-9+/]{22}==),type:(?P<type>[a-z]+)\]"
)
# Other ways to hold the data key. Our policy has age alone, so they must be empty.
_OTHER_KEYS = (
    "azure_kv", "gcp_kms", "hc_vault", "hckms", "key_groups", "kms", "pgp", "shamir_threshold",
)  # fmt: skip
_KNOWN = {"age", "lastmodified", "mac", "mac_only_encrypted", "version", *RULE_KEYS, *_OTHER_KEYS}
_KNOWN_OF_RECIPIENT = {"recipient", "enc"}
_RESTORE = "restore the last good version of the file"


@dataclass(frozen=True)
class Structure:
    """What the file says about itself, and what is wrong with that.

    `names` maps each secret's name (its path joined with `/`) to the line it stands on.
    """

    names: Mapping[str, int]
    recipients: tuple[str, ...]
    lastmodified: datetime | None
    findings: tuple[Finding, ...]


def inspect(data: bytes, policy: SopsPolicy) -> Structure:
    """Check a SOPS file without a key against the policy."""
    found = _read(data)
    if isinstance(found, Finding):
        return Structure({}, (), None, (found,))
    top, metadata = found
    body = tree.Map({k: v for k, v in top.entries.items() if k != "sops"}, top.line)
    recipients = tuple(_recipients(metadata))
    return Structure(
        names={"/".join(path): node.line for path, node in tree.leaves(body) if path},
        recipients=recipients,
        lastmodified=_time(metadata.text("lastmodified")),
        findings=(
            *_check_values(body),
            *_check_metadata(metadata),
            *_check_rule(metadata, policy),
            *_check_recipients(recipients, policy),
            *_check_stanzas(metadata),
        ),
    )


def written(data: bytes) -> datetime | None:
    """Return when a SOPS file was written, as it says itself; None if it does not."""
    found = _read(data)
    return None if isinstance(found, Finding) else _time(found[1].text("lastmodified"))


def unsafe(data: bytes) -> tuple[Finding, ...]:
    """Return what forbids to hand a file to sops at all, whatever the policy says.

    sops acts on what it finds in the metadata: it sends the data key to servers and programs that
    are named there. Only a file that is understood to the last entry may reach it.
    """
    found = _read(data)
    return (found,) if isinstance(found, Finding) else tuple(_check_metadata(found[1]))


def _read(data: bytes) -> tuple[tree.Map, tree.Map] | Finding:
    """Return the whole file and its metadata, or why it is no SOPS file."""
    try:
        top = tree.parse(data)
    except tree.TreeError as fault:
        return error("format", f"the file cannot be read: {fault}", hint=_RESTORE)
    metadata = top.entries.get("sops")
    if isinstance(metadata, tree.Map):
        return top, metadata
    return error(
        "not-encrypted",
        "the file has no sops metadata: it is not encrypted",
        hint="treat its values as disclosed; rave secrets init makes an encrypted file",
    )


def _check_values(body: tree.Map) -> Iterator[Finding]:
    seen: dict[str, tuple[str, ...]] = {}
    for path, node in tree.leaves(body):
        if not path:
            yield error("empty", "the file holds no secret", hint="rave secrets init")
            continue
        name = "/".join(path)
        yield from _check_keys(path, name, node.line)
        if seen.setdefault(name, path) != path:
            yield error("key", "two entries have the same name", place=name)
        yield from _check_leaf(name, node)


def _check_keys(path: tuple[str, ...], name: str, line: int) -> Iterator[Finding]:
    for key in path:
        fault = key_fault(key)
        if fault is not None:
            code = "key-colon" if ":" in key else "key"
            yield error(code, f"a key {fault}", place=f"line {line}: {name}")


def key_fault(key: str) -> str | None:
    """Return what is wrong with a key of a secrets file, or None."""
    if ":" in key:
        return "contains ':', with which a value can be moved to another place unnoticed"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", key):
        return "has characters other than A-Z a-z 0-9 . _ -"
    return None


def _check_leaf(name: str, node: tree.Node) -> Iterator[Finding]:
    if not isinstance(node, tree.Scalar):
        yield error("type", "it is a list or an empty map instead of one text", place=name)
    elif node.empty:
        yield error(
            "empty-value",
            "it is null or empty, which the MAC does not protect",
            place=name,
            hint="rave secrets edit",
        )
    elif not node.text.startswith("ENC["):
        yield error(
            "plaintext",
            "its value is not encrypted",
            place=name,
            hint="treat the value as disclosed and replace it: rave secrets rotate NAME",
        )
    else:
        yield from _check_ciphertext(name, node.text)


def _check_ciphertext(name: str, text: str) -> Iterator[Finding]:
    match = _ENCRYPTED.fullmatch(text)
    if match is None:
        yield error("ciphertext", "its ciphertext has a form that sops does not write", place=name)
    elif match["type"] != "str":
        yield error(
            "type",
            f"its type is {match['type']} instead of text",
            place=name,
            hint="rave secrets edit, and put the value in quotes",
        )


def _check_metadata(metadata: tree.Map) -> Iterator[Finding]:
    yield from _check_entries(metadata, _KNOWN, "the sops metadata")
    for key in _OTHER_KEYS:
        node = metadata.entries.get(key)
        if node is not None and not _is_nothing(key, node):
            yield error(
                "key-source",
                f"the data key is also held by {key}, which no policy allows",
                hint=_RESTORE,
            )
    for entry in _age_entries(metadata):
        yield from _check_entries(entry, _KNOWN_OF_RECIPIENT, "a recipient")
    if _time(metadata.text("lastmodified")) is None:
        yield error("metadata", "the sops metadata has no valid lastmodified time")
    if not _ENCRYPTED.fullmatch(metadata.text("mac") or ""):
        yield error("mac", "the file has no MAC, so changes to it would stay unnoticed")
    yield from _check_version(metadata.text("version"))


def _check_entries(found: tree.Map, known: set[str], what: str) -> Iterator[Finding]:
    """Refuse entries that we do not know: sops could act on them, in this version or another."""
    for key in sorted(set(found.entries) - known):
        line = found.entries[key].line
        yield error("metadata", f"{what} has an unknown entry {key!r} (line {line})", hint=_RESTORE)


def _check_version(version: str | None) -> Iterator[Finding]:
    if version is None:
        yield error("metadata", "the sops metadata has no version")
    elif not sops.is_released(version):
        yield error(
            "version",
            f"the file says that sops {version!r} wrote it, and there is none that writes age"
            " recipients and has that version",
            hint=f"{_RESTORE}; if that sops is new, use it here, too: rave doctor sops",
        )


def _check_rule(metadata: tree.Map, policy: SopsPolicy) -> Iterator[Finding]:
    rules = [(key, metadata.text(key) or "") for key in RULE_KEYS if key in metadata.entries]
    if (rules or [DEFAULT_RULE]) != [policy.rule]:
        found = ", ".join(f"{key}={value!r}" for key, value in rules) or "none"
        yield error(
            "rule",
            f"the file's rule for what is encrypted ({found}) is not the policy's "
            f"({policy.rule[0]}={policy.rule[1]!r} in {policy.source})",
        )
    only_encrypted = metadata.entries.get("mac_only_encrypted")
    if policy.mac_only_encrypted or not (
        only_encrypted is None or metadata.text("mac_only_encrypted") == "false"
    ):
        yield warning(
            "mac-only-encrypted",
            "mac_only_encrypted is set: the MAC does not protect what is not encrypted",
        )


def _check_recipients(recipients: tuple[str, ...], policy: SopsPolicy) -> Iterator[Finding]:
    for recipient in dict.fromkeys(recipients):
        if recipients.count(recipient) > 1:
            yield error("recipient-twice", f"the recipient {recipient} is there twice")
        if recipient.startswith("ssh-"):
            yield error("recipient-ssh", "it is encrypted to an ssh key, which sops-nix cannot use")
        elif (fault := age.check_recipient(recipient)) is not None:
            yield error("recipient-invalid", f"{recipient!r} is not an age recipient: {fault}")
        elif recipient not in policy.recipients:
            yield error(
                "recipient-extra",
                f"the recipient {recipient} is in the file and not in the policy {policy.source}",
                hint="if you do not know it, restore the last good version of the file; "
                "the next write by rave drops it",
            )
    for recipient in policy.recipients:
        if recipient not in recipients:
            yield error(
                "recipient-missing",
                f"the policy's recipient {recipient} cannot read the file",
                hint="rave secrets edit --reencrypt",
            )


def _check_stanzas(metadata: tree.Map) -> Iterator[Finding]:
    """Look at the encrypted data keys: one X25519 stanza each, none a copy of another."""
    seen: set[str] = set()
    for entry in _age_entries(metadata):
        armour = entry.text("enc") or ""
        place = f"line {entry.line}: {(entry.text('recipient') or '')[:16]}…"
        fault = _armour_fault(armour)
        if fault is not None:
            yield error("stanza", f"the encrypted data key {fault}", place=place)
        elif armour.strip() in seen:
            yield error("stanza", "the encrypted data key is a copy of another's", place=place)
        seen.add(armour.strip())


def _armour_fault(armour: str) -> str | None:
    lines = armour.strip().splitlines()
    if len(lines) < 3 or (lines[0], lines[-1]) != (
        "-----BEGIN AGE ENCRYPTED FILE-----",
        "-----END AGE ENCRYPTED FILE-----",
    ):
        return "is not an armoured age file"
    try:
        body = base64.b64decode("".join(lines[1:-1]), validate=True)
    except (binascii.Error, ValueError):
        return "is not valid base64"
    header = body.split(b"\n--- ")[0].split(b"\n")
    if header[0] != b"age-encryption.org/v1":
        return "is not an age v1 file"
    kinds = [line.split()[1:2] for line in header if line.startswith(b"-> ")]
    if kinds != [[b"X25519"]]:
        return "is not for exactly one X25519 recipient"
    return None


def _recipients(metadata: tree.Map) -> Iterator[str]:
    for entry in _age_entries(metadata):
        yield entry.text("recipient") or ""


def _age_entries(metadata: tree.Map) -> Iterator[tree.Map]:
    """Yield the recipients; sops also takes a single one for a list of one."""
    node = metadata.entries.get("age")
    for item in node.items if isinstance(node, tree.Sequence) else (node,) if node else ():
        yield item if isinstance(item, tree.Map) else tree.Map({}, item.line)


def _is_nothing(key: str, node: tree.Node) -> bool:
    if isinstance(node, tree.Scalar):
        return node.empty or (key == "shamir_threshold" and node.text == "0")
    if isinstance(node, tree.Sequence):
        return not node.items
    return not node.entries


def _time(text: str | None) -> datetime | None:
    """Read an RFC 3339 time with a time zone."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else None
