"""Changes by somebody who can edit the file but holds no key, against the real sops.

Where sops accepts the file, the test says so first: those are the ones that only rave refuses.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rave_cli import age
from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import edit, identity, sops, validate
from rave_cli.secrets.init import init, rotate
from tests.sops import CATALOG
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.secrets.conftest import Operator

pytestmark = pytest.mark.integration


def accepted(operator: Operator) -> bool:
    """Whether sops itself decrypts the file without complaint."""
    result = sops.try_decrypt(operator.file.read_bytes(), operator.keys.text, output="json")
    return not isinstance(result, sops.Fault)


def attack(operator: Operator, change: Callable[[str], str]) -> None:
    text = operator.file.read_text()
    changed = change(text)
    assert changed != text
    operator.file.write_text(changed)


def test_a_key_with_a_colon(operator: Operator) -> None:
    """A: the additional data of `a: b:` and `"a:b":` is the same (rops#41)."""
    attack(operator, lambda t: re.sub(r"redis:\n    password:", '"redis:password":', t))
    assert accepted(operator)
    assert {"key-colon", "missing"} <= operator.codes(keyed=False)


def test_unencrypted_values_are_refused_whatever_their_name(operator: Operator) -> None:
    """B: keys of unencrypted values are not authenticated, so there must be none."""
    operator.seal(operator.values())
    plaintext = b"a_unencrypted: '54'\nb_unencrypted: '32'\n"
    plaintext += sops.decrypt(operator.file.read_bytes(), operator.keys.text, output="yaml")
    operator.file.write_bytes(sops.encrypt(plaintext, operator.keys.recipients, source="yaml"))
    attack(operator, lambda t: t.replace("a_unencrypted: \"54\"", "a_unencrypted: \"543\"")
           .replace("b_unencrypted: \"32\"", "z_unencrypted: \"2\""))  # fmt: skip
    assert accepted(operator)
    assert {"plaintext"} <= operator.codes(keyed=False)


@pytest.mark.parametrize("value", ["null", '""', "''", ""])
def test_null_and_empty_entries(operator: Operator, value: str) -> None:
    """C: neither is in the MAC."""
    attack(operator, lambda t: f"more: {value}\n{t}")
    assert accepted(operator)
    assert "empty-value" in operator.codes(keyed=False)


@pytest.mark.parametrize("copied", [True, False])
def test_a_recipient_that_waits_for_the_next_rotation(operator: Operator, copied: bool) -> None:
    """D: sops takes recipients from the file; whoever is in it can read the next version."""
    attacker = age.generate()
    armour = re.search(r"enc: \|\n(.*?)    lastmodified", operator.file.read_text(), re.DOTALL)
    assert armour is not None
    enc = armour[1] if copied else "            junk\n"
    entry = f"        - recipient: {attacker.recipient}\n          enc: |\n{enc}"
    attack(operator, lambda t: t.replace("    lastmodified:", f"{entry}    lastmodified:"))
    assert accepted(operator)
    assert {"recipient-extra", "stanza"} <= operator.codes(keyed=False)
    rotate(operator.file, CATALOG, ["redis/password"], operator.keys)
    assert attacker.recipient not in operator.file.read_text()
    fault = sops.try_decrypt(operator.file.read_bytes(), attacker.file_text(), output="json")
    assert isinstance(fault, sops.Fault)


def test_plaintext_with_a_rule_that_allows_it(operator: Operator) -> None:
    """E: sops notices with a key, by the MAC; we do without."""
    attack(operator, lambda t: re.sub(r"password: ENC.*", "password: of-the-attacker", t))
    attack(operator, lambda t: t.replace("unencrypted_suffix: _", "unencrypted_suffix: word #"))
    assert not accepted(operator)
    assert {"rule", "plaintext"} <= operator.codes(keyed=False)


def test_mac_only_encrypted(operator: Operator) -> None:
    """F: what is not encrypted is then not authenticated either."""
    attack(
        operator, lambda t: t.replace("    version:", "    mac_only_encrypted: true\n    version:")
    )
    assert "mac-only-encrypted" in operator.codes(keyed=False)


def test_an_older_version(operator: Operator) -> None:
    """G: every version is valid, so only what is remembered tells."""
    old = operator.file.read_bytes()
    time.sleep(1.1)  # sops writes whole seconds
    rotate(operator.file, CATALOG, ["redis/password"], operator.keys)
    operator.file.write_bytes(old)
    assert accepted(operator)
    assert operator.codes() == {"rollback"}
    assert operator.codes() == {"rollback"}, "a doubtful version must not be remembered"


def test_a_version_from_a_colleague_is_remembered(operator: Operator) -> None:
    time.sleep(1.1)
    newer = sops.encrypt(
        sops.decrypt(operator.file.read_bytes(), operator.keys.text, output="yaml"),
        operator.keys.recipients,
        source="yaml",
    )
    old = operator.file.read_bytes()
    operator.file.write_bytes(newer)
    assert operator.codes() == set()
    operator.file.write_bytes(old)
    assert operator.codes() == {"rollback"}


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace('lastmodified: "20', 'lastmodified: "19'),
        lambda t: re.sub(r"mac: ENC\[AES256_GCM,data:..", "mac: ENC[AES256_GCM,data:zz", t),
        lambda t: re.sub(r"(password: ENC\[AES256_GCM,data:)..", r"\1zz", t),
        lambda t: re.sub(r"grafana:\n    secret-key: ENC.*\n", "", t),
    ],
    ids=["time", "mac", "value", "a value removed"],
)
def test_a_broken_mac(operator: Operator, change: Callable[[str], str]) -> None:
    attack(operator, change)
    assert not accepted(operator)
    assert "mac" in operator.codes()
    report = validate.validate(operator.file, CATALOG, operator.keys)
    assert validate.refusal(report).exit_code == 6


def test_swapped_values(operator: Operator) -> None:
    def swap(text: str) -> str:
        one, two = re.findall(r"(?:password|secret-key): (ENC.*)", text)
        return text.replace(one, "\0").replace(two, one).replace("\0", two)

    attack(operator, swap)
    assert not accepted(operator)
    assert "mac" in operator.codes()


def test_a_missing_entry(operator: Operator) -> None:
    values = operator.values()
    del values["grafana/secret-key"]
    operator.seal(values)
    report = validate.validate(operator.file, CATALOG, operator.keys)
    assert [(f.code, f.place) for f in report.findings] == [("missing", "grafana/secret-key")]


def test_an_unknown_entry_is_a_warning(operator: Operator) -> None:
    operator.seal(operator.values() | {"own/thing": "something"})
    report = validate.validate(operator.file, CATALOG, operator.keys)
    assert report.errors == ()
    assert [finding.code for finding in report.findings] == ["unknown"]


def test_what_this_host_uses_itself_is_known_and_outlives_a_rotation(operator: Operator) -> None:
    own = {"backup-copy/place": "sftp://me@example.org/b", "backup-copy/ssh-key": "a\nkey"}
    operator.seal(operator.values() | own)
    assert validate.validate(operator.file, CATALOG, operator.keys).findings == ()
    changed = rotate(operator.file, CATALOG, tuple(CATALOG)[:1], operator.keys)
    assert changed
    assert {name: operator.values()[name] for name in own} == own


def test_numbers_instead_of_text(operator: Operator) -> None:
    text = sops.decrypt(operator.file.read_bytes(), operator.keys.text, output="yaml")
    plaintext = re.sub(rb"password: .*", b"password: 123456", text)
    operator.file.write_bytes(sops.encrypt(plaintext, operator.keys.recipients, source="yaml"))
    assert accepted(operator)
    assert "type" in operator.codes(keyed=False)
    assert "type" in operator.codes()


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.binary(min_size=1, max_size=1))
def test_any_single_byte(operator: Operator, place: float, byte: bytes) -> None:
    """A changed byte is reported, or changes nothing that anybody reads."""
    before, values = operator.file.read_bytes(), operator.values()
    at = int(place * len(before))
    operator.file.write_bytes(before[:at] + byte + before[at + 1 :])
    try:
        report = validate.validate(operator.file, CATALOG, operator.keys)
        assert report.findings or (byte == before[at : at + 1] or operator.values() == values)
    finally:
        operator.file.write_bytes(before)


class Stranger:
    """A server of somebody else's: `asked` becomes true once anything connects to it."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.asked = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def _accept(self) -> None:
        try:
            while True:
                self._socket.accept()[0].close()
                self.asked.set()
        except OSError:
            return


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    server = Stranger()
    yield server
    server.close()


HOLDERS = {
    "plainly": "    hc_vault:\n        - {entry}\n",
    "under a merge key": "    <<: {{hc_vault: [{entry}]}}\n",
    "under a quoted merge key": "    '<<': {{hc_vault: [{entry}]}}\n",
    "under a merge key with an anchor": "    <<: &x {{hc_vault: [{entry}]}}\n",
    "under a merge key with a list": "    <<: [{{hc_vault: [{entry}]}}]\n",
    "in capitals": "    HC_VAULT: [{entry}]\n",
    "in key groups": "    key_groups: [{{hc_vault: [{entry}]}}]\n    shamir_threshold: 1\n",
    "in merged key groups": "    <<: {{key_groups: [{{hc_vault: [{entry}]}}]}}\n",
}
WRITERS: dict[str, Callable[[Operator], object]] = {
    "validate": lambda operator: validate.require(operator.file, CATALOG, operator.keys),
    "rotate": lambda operator: rotate(operator.file, CATALOG, ["redis/password"], operator.keys),
    "init": lambda operator: init(operator.file, CATALOG),
    "reencrypt": lambda operator: edit.reencrypt(operator.file, operator.keys),
    "edit": lambda operator: operator.edit(lambda path: None),
}


@pytest.mark.parametrize("how", HOLDERS)
def test_a_key_holder_of_a_stranger_is_refused_with_and_without_the_key(
    operator: Operator, stranger: Stranger, how: str
) -> None:
    """H: the next plain `sops rotate` would send the data key to that server."""
    hide_holder(operator, stranger, how)
    for keyed in (True, False):
        report = validate.validate(operator.file, CATALOG, operator.keys if keyed else None)
        assert report.errors
    assert not stranger.asked.is_set()


@pytest.mark.parametrize("command", WRITERS)
@pytest.mark.parametrize("how", HOLDERS)
def test_no_command_lets_sops_ask_a_stranger(
    operator: Operator, stranger: Stranger, command: str, how: str
) -> None:
    """H: without a fitting identity, sops asks every other holder that the file names."""
    hide_holder(operator, stranger, how)
    before = operator.file.read_bytes()
    identity.key_file().write_bytes(age.generate().file_text())
    with pytest.raises(RaveError) as caught:
        WRITERS[command](replace(operator, keys=identity.load()))
    assert caught.value.exit_code is ExitCode.SECRETS
    assert not stranger.asked.is_set()
    assert operator.file.read_bytes() == before


def test_sops_itself_asks_the_stranger(operator: Operator, stranger: Stranger) -> None:
    """The two tests above would prove nothing if it did not."""
    hide_holder(operator, stranger, "under a merge key")
    fault = sops.try_decrypt(operator.file.read_bytes(), age.generate().file_text(), output="json")
    assert isinstance(fault, sops.Fault)
    assert stranger.asked.wait(CEILING)


def hide_holder(operator: Operator, stranger: Stranger, how: str) -> None:
    entry = (
        f"{{vault_address: '{stranger.address}', engine_path: sops, key_name: k, "
        "created_at: '2026-01-01T00:00:00Z', enc: x}"
    )
    attack(operator, lambda t: t.replace("sops:\n", "sops:\n" + HOLDERS[how].format(entry=entry)))
