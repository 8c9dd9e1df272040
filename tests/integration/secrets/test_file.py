"""The secrets file with the real sops: made, completed, rotated, edited, refused."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from rave_cli import age, process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import edit, identity, policy, sops, store, validate, values
from rave_cli.secrets.init import OTHER_HOLDERS, init, rotate
from rave_cli.secrets.listing import listing
from tests.sops import CATALOG, secret

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.secrets.conftest import Operator

pytestmark = pytest.mark.integration


def test_age_keygen_agrees_with_our_identities() -> None:
    for _ in range(10):
        made = age.generate()
        said = subprocess.run(
            [process.require("age-keygen"), "-y"],
            input=made.secret, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert said.stdout.strip() == made.recipient


def test_age_keygens_identities_are_read(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    done = subprocess.run(
        [process.require("age-keygen"), "-o", path], capture_output=True, text=True, check=True
    )
    (found,) = age.parse_identities(path.read_text())
    assert found.recipient in done.stderr


def test_the_bundled_sops_says_its_version() -> None:
    found = sops.report()
    assert found.version
    assert found.warnings == ()


def test_init_makes_everything(home: Path) -> None:
    file = home / "place/secrets.sops.yaml"
    done = init(file, CATALOG)
    assert done.made_key
    assert done.made_policy
    assert set(done.added) == set(CATALOG)
    assert done.kept == ()
    assert file.stat().st_mode & 0o777 == 0o600
    report = validate.validate(file, CATALOG, identity.load())
    assert report.findings == ()
    values = store.open_values(file.read_bytes(), identity.load()).values
    assert all(value not in file.read_text() for value in values.values())


def test_init_again_changes_nothing(operator: Operator) -> None:
    before = operator.file.read_bytes()
    done = init(operator.file, CATALOG)
    assert (done.made_key, done.made_policy, done.added) == (False, False, ())
    assert operator.file.read_bytes() == before


def test_init_adds_what_a_newer_catalog_asks_for(operator: Operator) -> None:
    before = operator.values()
    done = init(operator.file, CATALOG | {"new/secret": secret(kind="hex", bytes=16)})
    assert done.added == ("new/secret",)
    after = operator.values()
    assert {name: after[name] for name in before} == before


def test_init_with_a_second_operator(home: Path) -> None:
    other = age.generate()
    file = home / "place/secrets.sops.yaml"
    init(file, CATALOG, recipients=[other.recipient])
    opened = store.names_of(sops.decrypt(file.read_bytes(), other.file_text(), output="json"))
    assert set(opened) == set(CATALOG)


def test_init_refuses_a_recipient_that_is_none(home: Path) -> None:
    with pytest.raises(RaveError) as caught:
        init(home / "x/secrets.sops.yaml", CATALOG, recipients=["ssh-ed25519 AAAA"])
    assert caught.value.exit_code is ExitCode.USAGE
    assert not identity.key_file().exists()


def test_init_takes_the_recipients_that_the_environment_gives_sops(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [age.generate(), age.generate()]
    monkeypatch.setenv("SOPS_AGE_RECIPIENTS", ", ".join(other.recipient for other in others))
    file = home / "x/secrets.sops.yaml"
    init(file, CATALOG)
    for other in others:
        opened = sops.try_decrypt(file.read_bytes(), other.file_text(), output="json")
        assert not isinstance(opened, sops.Fault)
    init(file, CATALOG)
    monkeypatch.setenv("SOPS_AGE_RECIPIENTS", age.generate().recipient)
    with pytest.raises(RaveError, match="does not name") as caught:
        init(file, CATALOG)
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize("name", OTHER_HOLDERS)
def test_init_refuses_to_leave_out_a_holder_that_the_environment_names(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "something")
    with pytest.raises(RaveError, match=name) as caught:
        init(home / "x/secrets.sops.yaml", CATALOG)
    assert caught.value.exit_code is ExitCode.USAGE
    assert not identity.key_file().exists()
    assert not (home / "x").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="giving a file away needs root")
def test_a_secrets_file_of_somebody_else_is_refused(operator: Operator) -> None:
    """Its recipients are public, so anybody can make one with values of their own."""
    os.chown(operator.file, 65534, 65534)
    for look in (
        lambda: validate.validate(operator.file, CATALOG, operator.keys),
        lambda: rotate(operator.file, CATALOG, ["redis/password"], operator.keys),
        lambda: edit.reencrypt(operator.file, operator.keys),
        lambda: listing(operator.file, CATALOG),
        lambda: init(operator.file, CATALOG),
    ):
        with pytest.raises(RaveError, match="belongs to the user nobody") as caught:
            look()
        assert caught.value.exit_code is ExitCode.SECRETS


def test_a_ci_job_with_its_key_in_the_environment_makes_no_other(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = age.generate()
    monkeypatch.setenv("SOPS_AGE_KEY", pair.secret)
    file = home / "x/secrets.sops.yaml"
    done = init(file, CATALOG)
    assert (done.made_key, done.key_file, done.recipient) == (False, "SOPS_AGE_KEY", pair.recipient)
    assert not isinstance(
        sops.try_decrypt(file.read_bytes(), pair.file_text(), output="json"), sops.Fault
    )
    assert not identity.key_file().exists()


def test_init_leaves_a_policy_alone(operator: Operator) -> None:
    with pytest.raises(RaveError, match="is there already") as caught:
        init(operator.file, CATALOG, recipients=[age.generate().recipient])
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_policy_without_us_is_refused_before_anything_is_written(operator: Operator) -> None:
    source = policy.load(operator.file).source
    source.write_bytes(policy.render([age.generate().recipient], operator.file.name))
    before = operator.file.read_bytes()
    with pytest.raises(RaveError, match="could not read what you write"):
        rotate(operator.file, CATALOG, ["redis/password"], operator.keys)
    assert operator.file.read_bytes() == before


def test_rotation(operator: Operator) -> None:
    before = operator.values()
    assert rotate(operator.file, CATALOG, ["redis/password"], operator.keys) == ("redis/password",)
    after = operator.values()
    assert {name for name in before if before[name] != after[name]} == {"redis/password"}
    assert operator.codes() == set()


def test_of_a_webhooks_secret_the_one_before_counts_until_it_is_forgotten(
    operator: Operator,
) -> None:
    catalog = {**CATALOG, "webhook/key": secret(kind="hex", bytes=32, several=True)}
    rotate(operator.file, catalog, ["webhook/key"], operator.keys)

    def value() -> str:
        found = operator.values()
        told = [(one.severity, one.code) for one in values.check(found, catalog)]
        two = "\n" in found["webhook/key"]
        assert told == ([("warning", "previous")] if two else [])
        return found["webhook/key"]

    first = value()
    changed = rotate(operator.file, catalog, ["webhook/key"], operator.keys, previous="kept")
    second, before = value().split("\n")
    assert (changed, before) == (("webhook/key",), first)
    # One before at the most: who needs more has not told his senders for long.
    rotate(operator.file, catalog, ["webhook/key"], operator.keys, previous="kept")
    third, before = value().split("\n")
    assert before == second != third
    for _ in range(2):
        rotate(operator.file, catalog, ["webhook/key"], operator.keys, previous="forgotten")
        assert value() == third
    rotate(operator.file, catalog, ["webhook/key"], operator.keys, previous="kept")
    # Whose value somebody may know by now is refused at once.
    rotate(operator.file, catalog, ["webhook/key"], operator.keys)
    assert third not in value()
    with pytest.raises(RaveError, match="one value counts at a time") as caught:
        rotate(operator.file, catalog, ["redis/password"], operator.keys, previous="kept")
    assert caught.value.exit_code == ExitCode.USAGE
    assert "webhook/key" in (caught.value.hint or "")


def test_rotation_of_something_unknown(operator: Operator) -> None:
    with pytest.raises(RaveError, match="no secret 'nope'") as caught:
        rotate(operator.file, CATALOG, ["nope"], operator.keys)
    given = CATALOG | {"router/providers": secret(kind="settings")}
    with pytest.raises(RaveError, match="router/providers is what its operator wrote"):
        rotate(operator.file, given, ["redis/password", "router/providers"], operator.keys)
    assert caught.value.exit_code is ExitCode.USAGE


def test_reencryption_follows_the_policy(operator: Operator) -> None:
    other = age.generate()
    source = policy.load(operator.file).source
    source.write_bytes(
        policy.render([*operator.keys.recipients, other.recipient], operator.file.name)
    )
    assert operator.codes() == {"recipient-missing"}
    before = operator.values()
    edit.reencrypt(operator.file, operator.keys)
    assert operator.codes() == set()
    opened = sops.decrypt(operator.file.read_bytes(), other.file_text(), output="json")
    assert store.names_of(opened) == before


def test_a_removed_operator_cannot_read_the_next_version(operator: Operator) -> None:
    other = age.generate()
    source = policy.load(operator.file).source
    both = policy.render([*operator.keys.recipients, other.recipient], operator.file.name)
    source.write_bytes(both)
    edit.reencrypt(operator.file, operator.keys)
    source.write_bytes(policy.render(operator.keys.recipients, operator.file.name))
    edit.reencrypt(operator.file, operator.keys)
    fault = sops.try_decrypt(operator.file.read_bytes(), other.file_text(), output="json")
    assert isinstance(fault, sops.Fault)
    assert fault.code == "identity"


def test_a_wrong_key(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    identity.key_file().unlink()
    keys, made = identity.ensure()
    assert made
    with pytest.raises(RaveError, match="none of your age identities") as caught:
        store.open_values(operator.file.read_bytes(), keys)
    assert caught.value.exit_code is ExitCode.SECRETS
    report = validate.validate(operator.file, CATALOG, keys)
    assert {finding.code for finding in report.errors} == {"identity"}


def test_a_full_disk_leaves_the_old_file(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = operator.file.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RaveError, match="no space left") as caught:
        rotate(operator.file, CATALOG, ["redis/password"], operator.keys)
    assert caught.value.exit_code is ExitCode.HOST
    assert operator.file.read_bytes() == before
    assert [path.name for path in operator.file.parent.iterdir() if "secrets" in path.name] == [
        operator.file.name
    ]


def test_an_expired_certificate(operator: Operator) -> None:
    later = datetime.now(UTC) + timedelta(days=400)
    report = validate.validate(operator.file, CATALOG, operator.keys, now=later)
    assert [finding.code for finding in report.errors] == ["certificate-expired"]


def test_the_listing_needs_no_key(operator: Operator) -> None:
    identity.key_file().unlink()
    found = listing(operator.file, CATALOG | {"new/secret": secret(kind="hex", bytes=16)})
    assert {entry.name: entry.present for entry in found.entries} == dict.fromkeys(
        CATALOG, True
    ) | {"new/secret": False}
    assert found.recipient is None
