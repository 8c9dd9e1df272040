"""The guest's verbs with the real sops and a real ramfs, in a directory of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli import age
from rave_cli.secrets import sops, store
from rave_guest import held, report
from rave_guest.proof import Unproven
from rave_guest.refusal import Refused
from rave_guest.secrets import generations, proofs
from rave_guest.secrets import install as guest
from rave_guest.secrets.boot import boot
from rave_guest.secrets.places import Places, locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.getuid() != 0, reason="mounting a ramfs needs root"),
]

MACHINE = age.generate()
NAMES = ("redis/password", "nats/password", "deep/er/secret")
FIRST = {name: f"first value of {name}" for name in NAMES}
SECOND = FIRST | {"redis/password": "second value"}


def plan(**services: Any) -> dict[str, Any]:
    """Return a plan whose secrets have refresh units and whose services cannot be asked."""
    return {
        "base": "debian",
        "services": {
            name: {"units": [f"{name}.service"], "deadlineSeconds": 15} | record
            for name, record in services.items()
        },
        "databases": [],
        "secrets": {
            name: {
                "owner": "daemon" if name == "redis/password" else "nobody-of-that-name",
                "mode": "0400",
                "path": f"/run/secrets/{name}",
                "refresh": [f"{name.split('/')[0]}.service"],
                "proof": "redis" if name == "redis/password" else None,
            }
            for name in NAMES
        },
    }


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    """Places below the test's directory, the real sops, and a systemctl that takes notes."""
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n[ ! -e {tmp_path}/broken ] || '
        "{ echo 'Job for redis.service failed.' >&2; exit 1; }\n"
    )
    systemctl.chmod(0o755)
    (tmp_path / "plan.json").write_text(json.dumps(plan()))
    monkeypatch.setattr(proofs, "PATIENCE", 0.2)
    monkeypatch.setattr(proofs, "AT_REST", 0.1)
    place = generations.Place(str(tmp_path / "secrets.d"), str(tmp_path / "secrets"))
    yield Places(
        plan=str(tmp_path / "plan.json"),
        sops=str(sops.locate().path),
        store=str(tmp_path / "store"),
        handed=str(tmp_path / "handed"),
        lock=str(tmp_path / "lock"),
        systemctl=str(systemctl),
        generations=place,
    )
    if os.path.ismount(place.root):
        subprocess.run(["umount", place.root], check=True)


def request(values: dict[str, str], identity: age.Identity = MACHINE) -> dict[str, str]:
    document = json.dumps(store.nest(values)).encode()
    file = sops.encrypt(document, [MACHINE.recipient], source="json")
    return {"identity": identity.secret, "file": file.decode()}


def install(places: Places, values: dict[str, str]) -> dict[str, Any]:
    return answered(places, request(values))


def answered(places: Places, arguments: dict[str, str]) -> dict[str, Any]:
    """The verb's answer with whether it was carried out, as the door tells it."""
    try:
        return {"ok": True, **guest.install(places, arguments)}
    except Refused as error:
        return {"ok": False, "stage": error.stage, "error": str(error)}


def in_force(places: Places) -> dict[str, str]:
    found = generations.read(generations.current(places.generations))
    return {name: value.decode() for name, value in found.items()}


def calls(places: Places) -> list[str]:
    path = Path(places.systemctl).with_name("calls")
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def numbers(places: Places) -> list[str]:
    return sorted(path.name for path in Path(places.generations.root).iterdir())


def kept(places: Places) -> bytes | None:
    path = Path(places.store) / "secrets.sops.yaml"
    return path.read_bytes() if path.exists() else None


def test_the_first_installation(places: Places) -> None:
    report = install(places, FIRST)
    assert report["ok"], report
    assert report["changed"] == sorted(NAMES)
    assert in_force(places) == FIRST
    assert calls(places) == ["restart deep.service nats.service redis.service"]
    assert not any(value in json.dumps(report) for value in FIRST.values())


class Held:
    """A machine that stands still: what is started when it goes on, and how that comes out."""

    def __init__(self, *states: str) -> None:
        self.states_of = [*states]
        self.started: list[str] = []

    def over(self) -> bool:
        return False

    def end(self, restarted: list[str]) -> None:
        self.started += restarted

    def states(self, names: list[str]) -> dict[str, str]:
        state = self.states_of.pop(0) if len(self.states_of) > 1 else self.states_of[0]
        return dict.fromkeys(names, state)

    def close(self) -> None:
        """It is asked anew each time."""


@pytest.fixture
def stand_still(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Held]:
    def begin(*states: str) -> Held:
        found = Held(*states)
        monkeypatch.setattr(held, "_over", [found])
        monkeypatch.setattr(guest, "Manager", lambda: found)
        monkeypatch.setattr(guest, "LOOK", 0.001)
        return found

    return begin


def test_what_stands_still_goes_on_with_its_secrets_and_starts_what_needs_them_once(
    places: Places, stand_still: Callable[..., Held]
) -> None:
    found = stand_still("queued", "activating", "active")
    report = install(places, FIRST)
    assert report["ok"], report
    units = ["deep.service", "nats.service", "redis.service"]
    assert (found.started, report["refreshed"], found.states_of) == (units, units, ["active"])
    assert in_force(places) == FIRST
    assert calls(places) == []
    # From then on it is a machine like any other.
    assert install(places, SECOND)["ok"]
    assert calls(places) == ["restart redis.service"]


def test_a_unit_that_fails_when_all_goes_on_takes_the_secrets_back(
    places: Places, stand_still: Callable[..., Held]
) -> None:
    stand_still("activating", "failed")
    report = install(places, FIRST)
    assert (report["ok"], report["stage"]) == (False, "refresh")
    assert "deep.service, nats.service, redis.service failed" in report["error"]
    assert in_force(places) == {}
    assert kept(places) is None


def test_secrets_that_cannot_be_opened_leave_all_standing_still(
    places: Places, stand_still: Callable[..., Held]
) -> None:
    found = stand_still("active")
    wrong = request(FIRST, age.generate())
    assert answered(places, wrong)["stage"] == "decrypt"
    assert (found.started, calls(places)) == ([], [])


def test_owners_and_modes(places: Places) -> None:
    report = install(places, FIRST)
    owners = {placed["name"]: placed["owner"] for placed in report["secrets"]}
    assert owners == {"redis/password": "daemon", "nats/password": "root", "deep/er/secret": "root"}
    assert {placed["mode"] for placed in report["secrets"]} == {"0400"}
    top = Path(str(generations.current(places.generations)))
    assert {path.stat().st_mode & 0o7777 for path in [top, *top.rglob("*")] if path.is_dir()} == {
        0o751
    }


def test_they_lie_in_memory_that_runs_nothing(places: Places) -> None:
    install(places, FIRST)
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    (found,) = [line.split() for line in mounts if line.split()[4] == places.generations.root]
    assert found[found.index("-") + 1] == "ramfs"
    assert {"nosuid", "nodev", "noexec"} <= set(found[5].split(","))


def test_key_and_file_are_kept_private(places: Places) -> None:
    install(places, FIRST)
    assert Path(places.store).stat().st_mode & 0o7777 == 0o700
    for name in ("age.key", "secrets.sops.yaml"):
        assert (Path(places.store) / name).stat().st_mode & 0o7777 == 0o400
    assert not any(value.encode() in (kept(places) or b"") for value in FIRST.values())


def test_again_changes_nothing(places: Places) -> None:
    install(places, FIRST)
    calls(places)
    before, link = kept(places), Path(places.generations.link).readlink()
    report = install(places, FIRST)
    assert report["ok"]
    assert report["changed"] == []
    assert calls(places) == []
    assert (kept(places), Path(places.generations.link).readlink()) == (before, link)


def test_a_change_restarts_what_uses_it_and_leaves_one_generation(places: Places) -> None:
    install(places, FIRST)
    calls(places)
    report = install(places, SECOND)
    assert report["changed"] == ["redis/password"]
    assert calls(places) == ["restart redis.service"]
    assert in_force(places) == SECOND
    assert len(numbers(places)) == 1


def test_a_secret_that_left_the_plan_goes_away(places: Places) -> None:
    install(places, FIRST)
    smaller = plan()
    del smaller["secrets"]["nats/password"]
    Path(places.plan).write_text(json.dumps(smaller))
    assert install(places, FIRST)["ok"]
    assert "nats/password" not in in_force(places)


def test_what_the_plan_does_not_name_is_not_placed(places: Places) -> None:
    install(places, FIRST | {"other/secret": "x"})
    assert set(in_force(places)) == set(NAMES)


def broken(places: Places) -> None:
    Path(places.systemctl).with_name("broken").touch()


def test_a_service_that_does_not_start_takes_it_back(places: Places) -> None:
    install(places, FIRST)
    before, _ = kept(places), calls(places)
    broken(places)
    report = install(places, SECOND)
    assert (report["ok"], report["stage"]) == (False, "refresh")
    assert "Job for redis.service failed." in report["error"]
    assert in_force(places) == FIRST
    assert kept(places) == before
    assert len(numbers(places)) == 1
    assert calls(places) == ["restart redis.service"] * 2


def test_a_first_installation_that_fails_leaves_nothing(places: Places) -> None:
    broken(places)
    assert not install(places, FIRST)["ok"]
    assert not os.path.lexists(places.generations.link)
    assert numbers(places) == []
    assert kept(places) is None


def test_a_service_that_does_not_take_it_takes_it_back(places: Places) -> None:
    install(places, FIRST)
    deaf = plan(redis={"ports": [{"name": "redis", "port": 1}]})  # nothing listens there
    Path(places.plan).write_text(json.dumps(deaf))
    report = install(places, SECOND)
    assert (report["ok"], report["stage"]) == (False, "prove")
    assert report["error"].startswith("redis: ")
    assert in_force(places) == FIRST


def test_an_unexpected_end_takes_it_back(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    install(places, FIRST)

    def killed(*_: object) -> None:
        raise SystemExit(1)

    monkeypatch.setattr(proofs, "prove", killed)
    with pytest.raises(SystemExit):
        install(places, SECOND)
    assert in_force(places) == FIRST


def test_a_service_at_rest_that_lost_its_secret_is_restarted(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(places, FIRST)
    calls(places)
    faults = [Unproven("redis: it forgot")]

    def prove(*_: object) -> list[dict[str, Any]]:
        if faults:
            raise faults.pop()
        return []

    monkeypatch.setattr(proofs, "prove", prove)
    assert install(places, FIRST)["ok"]
    assert calls(places) == ["restart redis.service nats.service deep.service"]


def test_a_missing_value(places: Places) -> None:
    install(places, FIRST)
    fewer = {name: value for name, value in SECOND.items() if name != "nats/password"}
    report = install(places, fewer)
    assert (report["ok"], report["stage"]) == (False, "decrypt")
    assert "the file lacks nats/password" in report["error"]
    assert in_force(places) == FIRST


def test_another_machines_key(places: Places) -> None:
    report = answered(places, request(FIRST, age.generate()))
    assert (report["ok"], report["stage"]) == (False, "decrypt")
    assert not os.path.lexists(places.generations.link)


def test_a_changed_file(places: Places) -> None:
    document = request(FIRST)
    document["file"] = document["file"].replace('lastmodified: "20', 'lastmodified: "19')
    report = answered(places, document)
    assert (report["ok"], report["stage"]) == (False, "decrypt")


def test_two_at_once(places: Places) -> None:
    with locked(places):
        report = install(places, FIRST)
    assert (report["ok"], report["stage"]) == (False, "request")
    assert "another installation" in report["error"]


def reboot(places: Places) -> None:
    subprocess.run(["umount", places.generations.root], check=True)
    Path(places.generations.link).unlink()


def test_after_a_reboot(places: Places) -> None:
    install(places, FIRST)
    reboot(places)
    calls(places)
    assert boot(places) == 0
    assert in_force(places) == FIRST
    assert calls(places) == []


def hand_over(places: Places, identity: age.Identity = MACHINE) -> None:
    """Do what the host does at each boot: a credential, here with comments as in a key file."""
    Path(places.handed).write_bytes(identity.file_text())


def on_disk(places: Places) -> list[str]:
    return sorted(path.name for path in Path(places.store).iterdir())


def test_an_identity_that_the_host_hands_over_stays_off_the_disk(places: Places) -> None:
    hand_over(places)
    assert install(places, FIRST)["ok"]
    assert on_disk(places) == ["secrets.sops.yaml"]
    assert MACHINE.secret.encode() not in (kept(places) or b"")
    reboot(places)
    assert boot(places) == 0
    assert in_force(places) == FIRST


def test_what_is_on_the_disk_opens_nothing_by_itself(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    hand_over(places)
    install(places, FIRST)
    reboot(places)
    Path(places.handed).unlink()
    assert boot(places) == 1
    assert "the host handed no age identity over" in capsys.readouterr().err
    assert in_force(places) == {}


def test_a_clone_boots_without_the_secrets_of_its_original(
    places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hand_over(places)
    monkeypatch.setattr(report, "instance", lambda: "original-of-it")
    install(places, FIRST)
    # The disk alone does not tell what the machine answers to.
    assert b"original-of-it" not in (Path(places.store) / "instance").read_bytes()
    reboot(places)
    assert boot(places) == 0
    assert in_force(places) == FIRST
    reboot(places)
    monkeypatch.setattr(report, "instance", lambda: "clone")
    assert boot(places) == 0
    assert "those on this disk are another machine's: removed" in capsys.readouterr().err
    assert on_disk(places) == []
    assert in_force(places) == {}
    assert install(places, FIRST)["ok"]


@pytest.mark.parametrize("by", ["boot", "installation"])
def test_an_identity_that_an_older_host_left_on_the_disk_goes_away(places: Places, by: str) -> None:
    install(places, FIRST)
    assert on_disk(places) == ["age.key", "secrets.sops.yaml"]
    hand_over(places)
    if by == "boot":
        reboot(places)
        assert boot(places) == 0
    else:
        assert install(places, FIRST)["changed"] == []
    assert on_disk(places) == ["secrets.sops.yaml"]
    assert in_force(places) == FIRST


def test_an_identity_other_than_the_one_handed_over_is_refused(places: Places) -> None:
    """With it, the next boot could open nothing."""
    hand_over(places, age.generate())
    report = install(places, FIRST)
    assert (report["ok"], report["stage"]) == (False, "request")
    assert "started with another age identity" in report["error"]
    assert kept(places) is None


def test_an_installation_that_fails_leaves_no_identity_behind(places: Places) -> None:
    install(places, FIRST)
    hand_over(places)
    broken(places)
    assert not install(places, SECOND)["ok"]
    Path(places.systemctl).with_name("broken").unlink()
    assert install(places, SECOND)["ok"]
    assert on_disk(places) == ["secrets.sops.yaml"]


@pytest.mark.parametrize("name", ["age.key", "secrets.sops.yaml"])
def test_a_reboot_with_a_damaged_store(
    places: Places, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    install(places, FIRST)
    reboot(places)
    (Path(places.store) / name).write_text("damaged")
    assert boot(places) == 1
    assert "secrets: sops cannot decrypt" in capsys.readouterr().err
    assert in_force(places) == {}


def test_a_service_gets_the_time_that_it_takes_to_start(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest, "TIMEOUT", 0.2)
    slow = plan(nats={"deadlineSeconds": 30})
    Path(places.plan).write_text(json.dumps(slow))
    Path(places.systemctl).write_text("#!/bin/sh\nsleep 1\n")
    assert install(places, FIRST)["ok"]
    Path(places.plan).write_text(json.dumps(plan()))
    refused = install(places, SECOND)
    assert refused["stage"] == "refresh"
    assert "did not start within 0.2 s" in refused["error"]
