"""The certificate of a machine: kept over its starts, renewed in time, and only rave's own."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import certificate, lifecycle, store
from rave_cli.machines.qemu import credentials
from rave_cli.profiles.names import BAKED
from rave_cli.tls import authority, chain
from rave_guest.portal import page as portal

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.images.manifest import Image
    from rave_cli.machines.certificate import MachineCertificate
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from tests.unit.machines.fake_sshd import FakeSshd

DAY = 86400.0


def kept(machine: Machine) -> MachineCertificate:
    found = certificate.stored(machine)
    assert found is not None
    return found


def test_a_new_machine_has_one_which_no_one_else_may_read(machine: Machine) -> None:
    found = kept(machine)
    assert (found.kind, found.host) == ("issued", "rave.localhost")
    assert chain.facts(found.chain).ends.timestamp() == int(found.until)
    assert certificate.place(machine).stat().st_mode & 0o777 == 0o600
    assert found.chain.endswith(authority.of("rave.localhost").pem)
    assert found.key not in repr(found)


def test_it_stays_the_same_over_starts(machine: Machine, sshd: FakeSshd) -> None:
    before = kept(machine)
    lifecycle.start(machine, on_stage=lambda _stage: None)
    assert kept(machine) == before
    assert certificate.of(machine) == before


def test_the_guest_is_handed_it_at_each_boot_and_it_is_in_no_command(machine: Machine) -> None:
    found = kept(machine)
    with credentials.written(machine):
        for name, text in (("rave.tls-key", found.key), ("rave.tls-certificate", found.chain)):
            place = machine.credentials / name
            blob = place.read_bytes()
            assert blob.endswith(base64.b64encode(text.encode()))
            assert place.stat().st_mode & 0o777 == 0o600
            assert place in credentials.blob_paths(machine)
    assert not machine.credentials.exists()


@pytest.mark.parametrize(
    ("days", "renewed"), [(89, False), (30.1, False), (29.9, True), (-1, True)]
)
def test_it_is_renewed_at_a_start_when_less_than_a_third_of_its_time_is_left(
    machine: Machine, days: float, renewed: bool
) -> None:
    before = certificate.keep(machine, replace(kept(machine), until=time.time() + days * DAY))
    assert (certificate.of(machine) != before) is renewed
    assert kept(machine).until > time.time() + (60 if renewed else days - 1) * DAY


def test_it_is_renewed_for_another_origin(machine: Machine) -> None:
    other = replace(machine, spec=replace(machine.spec, own_origin="https://rave.example.org"))
    found = certificate.of(other)
    assert chain.covers(chain.facts(found.chain).names, "auth.rave.example.org")
    assert found.chain.endswith(authority.of("rave.example.org").pem)


def test_one_of_your_own_is_never_renewed(machine: Machine) -> None:
    own = replace(kept(machine), kind="installed", until=time.time() - DAY, host="x.example")
    certificate.keep(machine, own)
    assert certificate.of(machine) == own


def test_no_two_machines_have_the_same(machine: Machine, plan: Plan, image: Image) -> None:
    other = store.create(store.new_spec(plan, image, name="other", mode="safe"))
    assert kept(other).key != kept(machine).key


def test_what_starts_nothing_loads_nothing_to_read_it(machine: Machine) -> None:
    before = certificate.place(machine).stat().st_mtime_ns
    certificate.of(machine)
    assert certificate.place(machine).stat().st_mtime_ns == before


def wrong_mode(place: Path) -> None:
    place.chmod(0o640)


def damaged(place: Path) -> None:
    place.write_text('{"version": 1, "kind": "issued"}')
    place.chmod(0o600)


def newer(place: Path) -> None:
    place.write_text('{"version": 99}')
    place.chmod(0o600)


@pytest.mark.parametrize(
    ("fault", "why"),
    [(wrong_mode, "read by others"), (damaged, "is damaged"), (newer, "made by a newer rave")],
)
def test_a_file_that_cannot_be_trusted_is_left_as_it_is(
    machine: Machine, fault: object, why: str
) -> None:
    place = certificate.place(machine)
    fault(place)  # type: ignore[operator]
    before = place.read_bytes()
    with pytest.raises(RaveError, match=why) as caught:
        certificate.of(machine)
    assert caught.value.exit_code is ExitCode.SECRETS
    assert caught.value.hint
    assert place.read_bytes() == before


@pytest.mark.parametrize("base", ["debian", "nixos"])
def test_host_page_and_alert_call_the_same_days_soon_and_a_third_is_left_when_it_is_due(
    base: str,
) -> None:
    plan = json.loads(BAKED.read_bytes())["profiles"]["demo"]["bases"][base]
    (rule,) = (rule for rule in plan["facts"]["alerts"] if rule["alert"] == "CertificateExpires")
    assert rule["expr"].endswith(f"< {certificate.SOON_DAYS} * 86400")
    assert f"{certificate.SOON_DAYS} days" in rule["annotations"]["summary"]
    assert authority.LEAF_LIFE.total_seconds() / 3 == certificate.RENEW
    assert portal.SOON == certificate.SOON_DAYS * portal.DAY
