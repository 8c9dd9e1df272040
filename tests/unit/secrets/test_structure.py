"""The keyless pass: each change that somebody without a key can make has its finding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rave_cli import age
from rave_cli.secrets import structure
from rave_cli.secrets.policy import Policy
from tests.sops import CATALOG, RECIPIENT, ciphertext, sops_file, stanza

if TYPE_CHECKING:
    from collections.abc import Callable

POLICY = Policy(Path(".sops.yaml"), (RECIPIENT,))
GOOD = sops_file()
FOREIGN = age.generate().recipient


def codes(text: str, policy: Policy = POLICY) -> set[str]:
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
    "an unknown entry": (replace("    version:", "    surprise: 1\n    version:"), "metadata"),
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
    policy = Policy(Path(".sops.yaml"), (RECIPIENT,), ("encrypted_regex", "^data$"))
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
