"""The keyless pass: each change that somebody without a key can make has its finding."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rave_cli import age
from rave_cli.secrets import sops, structure
from rave_cli.secrets.policy import SopsPolicy
from tests.sops import CATALOG, RECIPIENT, ciphertext, sops_file, stanza

if TYPE_CHECKING:
    from collections.abc import Callable

POLICY = SopsPolicy(Path(".sops.yaml"), (RECIPIENT,))
GOOD = sops_file()
FOREIGN = age.generate().recipient


def codes(text: str, policy: SopsPolicy = POLICY) -> set[str]:
    return {finding.code for finding in structure.inspect(text.encode(), policy).findings}


def with_recipient(recipient: str, enc: str) -> Callable[[str], str]:
    entry = f"        - recipient: {recipient}\n          enc: |\n            {enc}\n"
    return lambda text: text.replace("    lastmodified:", f"{entry}    lastmodified:")


def replace(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


def line(name: str, text: str = GOOD) -> str:
    return next(row for row in text.splitlines() if row.strip().startswith(f"{name}:"))


def own_stanza(text: str) -> str:
    begin, end = text.index("-----BEGIN"), text.index("-----END AGE ENCRYPTED FILE-----")
    return text[begin : end + len("-----END AGE ENCRYPTED FILE-----")]


def entry(text: str) -> Callable[[str], str]:
    """Put lines into the metadata."""
    return replace("    version:", f"    {text}\n    version:")


def recipient_entry(text: str) -> Callable[[str], str]:
    """Put an entry into that of a recipient."""
    return replace("          enc:", f"          {text}\n          enc:")


PASSWORD = line("password").strip()
MUTATIONS: dict[str, tuple[Callable[[str], str], str]] = {
    # A: a value moves although its additional data stays the same
    "colon in a key": (replace(f"redis:\n    {PASSWORD}", f'"redis:{PASSWORD[:8]}"{PASSWORD[8:]}'),
                       "key-colon"),
    "slash in a key": (replace("    password:", '    "pass/word":'), "key"),
    # B: what is not encrypted is not protected
    "plain text": (replace(PASSWORD, "password: hunter2"), "plaintext"),
    "an unencrypted entry": (lambda text: f"note_unencrypted: hello\n{text}", "plaintext"),
    # C: null and empty values are not in the MAC
    "a null": (lambda text: f"more: null\n{text}", "empty-value"),
    "an empty text": (lambda text: f'more: ""\n{text}', "empty-value"),
    "nothing": (lambda text: f"more:\n{text}", "empty-value"),
    # D: a recipient is added and waits for the next rotation
    "an extra recipient": (with_recipient(FOREIGN, stanza()), "recipient-extra"),
    "an extra recipient with a copied key": (
        lambda text: with_recipient(FOREIGN, own_stanza(text))(text), "stanza"),
    "an extra recipient with junk": (with_recipient(FOREIGN, "junk"), "stanza"),
    "a recipient twice": (with_recipient(RECIPIENT, stanza()), "recipient-twice"),
    "a recipient that is none": (with_recipient("age1nobody", stanza()), "recipient-invalid"),
    "an ssh recipient": (with_recipient("ssh-ed25519 AAAA", stanza()), "recipient-ssh"),
    "a recipient replaced": (replace(RECIPIENT, FOREIGN), "recipient-missing"),
    # E and F: another rule
    "another rule": (replace("unencrypted_suffix: _unencrypted", "unencrypted_regex: password"),
                     "rule"),
    "two rules": (replace("    version:", "    encrypted_regex: x\n    version:"), "rule"),
    "mac_only_encrypted": (replace("    version:", "    mac_only_encrypted: true\n    version:"),
                           "mac-only-encrypted"),
    # and the rest
    "another key source": (replace("    version:", "    pgp:\n        - fp: ABCD\n    version:"),
                           "key-source"),
    "shamir": (replace("    version:", "    shamir_threshold: 2\n    version:"), "key-source"),
    "no MAC": (replace(f"{line('mac')}\n", ""), "mac"),
    "a plain MAC": (replace(line("mac"), "    mac: ABCDEF"), "mac"),
    "no time": (replace(f"{line('lastmodified')}\n", ""), "metadata"),
    "a time without zone": (replace("12:00:00Z", "12:00:00"), "metadata"),
    "no version": (replace(f"{line('version')}\n", ""), "metadata"),
    "an unknown entry": (entry("surprise: 1"), "metadata"),
    "an entry in capitals": (entry("PGP: [{fp: A}]"), "metadata"),
    "an unknown entry of a recipient": (recipient_entry("Enc: x"), "metadata"),
    "a recipient that is no list": (
        lambda text: re.sub(r"        - (recipient:.*\n)  (.*\n)", r"        \1\2", text)
        .replace(RECIPIENT, FOREIGN), "recipient-extra"),
    "a merge key": (entry("<<: {pgp: [{fp: A}]}"), "format"),
    "a quoted merge key": (entry("'<<': {pgp: [{fp: A}]}"), "format"),
    "a merge key of a recipient": (recipient_entry("<<: {a: b}"), "format"),
    "a merge key beside the values": (
        lambda text: f"<<: {{sops: {{pgp: [a]}}}}\n{text}", "format"),
    "a directive": (lambda text: f"%YAML 1.1\n---\n{text}", "format"),
    "a tag directive": (lambda text: f"%TAG ! tag:x,2000:\n---\n{text}", "format"),
    "a key that is a number": (replace("    password:", "    0x10:"), "format"),
    "a key that is a date": (replace("    password:", "    2026-01-01:"), "format"),
    "mac_only_encrypted as a list": (entry("mac_only_encrypted: [true]"), "mac-only-encrypted"),
    "a zero that is no threshold": (entry("pgp: 0"), "key-source"),
    **{f"version {version}": (replace("version: 3.11.0", f"version: {version}"), "version")
       for version in ("3.99.0", "99.0.0", "2.0.10", "3.6.1", "'0'", "3.11", "3.11.0-evil",
                       "latest", "' 3.11.0'", "3.7.9", "4.0.0")},
    "another type": (replace("type:str]", "type:int]"), "type"),
    "text after a value": (replace("type:str]", "type:str]more"), "ciphertext"),
    "a list": (replace(PASSWORD, f"password: ['{ciphertext()}']"), "type"),
    "a duplicate key": (lambda text: f"redis:\n    {PASSWORD}\n{text}", "format"),
    "an alias": (replace(PASSWORD, PASSWORD.replace("ENC", "&a ENC")), "format"),
    "a second document": (lambda text: f"{text}---\na: b\n", "format"),
    "no metadata": (lambda text: text[: text.index("sops:")], "not-encrypted"),
    "no secret": (lambda text: text[text.index("sops:") :], "empty"),
    "nothing at all": (lambda text: "", "format"),
}  # fmt: skip


# Not safe, but what the policy may say, too.
WARNED = {"mac_only_encrypted", "mac_only_encrypted as a list"}


def test_a_good_file_has_no_findings() -> None:
    found = structure.inspect(GOOD.encode(), POLICY)
    assert found.findings == ()
    assert set(found.names) == set(CATALOG)
    assert found.recipients == (RECIPIENT,)
    assert found.lastmodified is not None


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_change_is_found(name: str) -> None:
    change, code = MUTATIONS[name]
    assert code in codes(change(GOOD))


@pytest.mark.parametrize("name", sorted(set(MUTATIONS) - WARNED))
def test_a_change_makes_the_file_unfit(name: str) -> None:
    findings = structure.inspect(MUTATIONS[name][0](GOOD).encode(), POLICY).findings
    assert any(finding.severity == "error" for finding in findings)


@pytest.mark.parametrize("version", ["3.7.0", "3.9.4", "3.11.0", "3.13.3"])
def test_a_released_version_is_accepted(version: str) -> None:
    assert codes(GOOD.replace("version: 3.11.0", f"version: {version}")) == set()


def test_the_version_in_use_here_is_a_released_one(monkeypatch: pytest.MonkeyPatch) -> None:
    text = GOOD.replace("version: 3.11.0", "version: 3.20.1")
    assert codes(text) == {"version"}
    monkeypatch.setattr(
        sops, "report", lambda: sops.ToolReport(sops.Tool(Path("/x"), "PATH"), "3.20.1", ())
    )
    assert codes(text) == set()


@pytest.mark.parametrize("name", MUTATIONS)
def test_sops_gets_no_file_whose_metadata_is_not_understood(name: str) -> None:
    change, code = MUTATIONS[name]
    unsafe = {finding.code for finding in structure.unsafe(change(GOOD).encode())}
    assert (code in unsafe) == (
        code in {"format", "not-encrypted", "metadata", "version", "key-source", "mac"}
    )


@settings(deadline=None)
@given(st.lists(st.sampled_from(sorted(MUTATIONS)), min_size=1, max_size=3, unique=True))
def test_changes_do_not_hide_each_other_completely(names: list[str]) -> None:
    text = GOOD
    for name in names:
        try:
            text = MUTATIONS[name][0](text)
        except (AssertionError, ValueError):  # the place of this change is gone already
            continue
    assert text == GOOD or codes(text)


LINES = GOOD.splitlines(keepends=True)
# Within the metadata; without a rule sops takes its default, and the key's body is the keyed
# pass's business.
BEARING = [
    number
    for number, row in enumerate(LINES)
    if number >= LINES.index("sops:\n")
    and "unencrypted_suffix" not in row
    and (not row.startswith("            ") or "-----" in row)
]


@pytest.mark.parametrize("number", BEARING)
def test_any_lost_line_of_the_metadata_is_found(number: int) -> None:
    assert codes("".join(LINES[:number] + LINES[number + 1 :]))


@given(st.binary(max_size=300))
def test_any_bytes_get_a_verdict(data: bytes) -> None:
    assert structure.inspect(data, POLICY).findings


def test_the_policys_own_rule_is_expected() -> None:
    policy = SopsPolicy(Path(".sops.yaml"), (RECIPIENT,), ("encrypted_regex", "^data$"))
    text = GOOD.replace("unencrypted_suffix: _unencrypted", "encrypted_regex: ^data$")
    assert codes(text, policy) == set()
    assert codes(GOOD, policy) == {"rule"}


def test_empty_key_sources_are_none() -> None:
    text = GOOD.replace(
        "    version:", "    kms: []\n    pgp: []\n    hc_vault: null\n    version:"
    )
    assert codes(text) == set()


def test_no_finding_repeats_plain_text() -> None:
    text = replace(PASSWORD, "password: hunter2")(GOOD)
    assert "hunter2" not in str(structure.inspect(text.encode(), POLICY).findings)
