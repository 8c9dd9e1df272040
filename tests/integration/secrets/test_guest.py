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
from rave_guest import generations, takeover
from rave_guest import secrets as guest

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        "services": services,
        "databases": [],
        "secrets": {
            name: {
                "owner": "daemon" if name == "redis/password" else "nobody-of-that-name",
                "mode": "0400",
                "path": f"/run/secrets/{name}",
                "refresh": [f"{name.split('/')[0]}.service"],
            }
            for name in NAMES
        },
    }


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[guest.World]:
    """Places below the test's directory, the real sops, and a systemctl that takes notes."""
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n[ ! -e {tmp_path}/broken ] || '
        "{ echo 'Job for redis.service failed.' >&2; exit 1; }\n"
    )
    systemctl.chmod(0o755)
    (tmp_path / "plan.json").write_text(json.dumps(plan()))
    monkeypatch.setattr(takeover, "PATIENCE", 0.2)
    monkeypatch.setattr(takeover, "AT_REST", 0.1)
    place = generations.Place(str(tmp_path / "secrets.d"), str(tmp_path / "secrets"))
    yield guest.World(
        plan=str(tmp_path / "plan.json"),
        sops=str(sops.locate().path),
        store=str(tmp_path / "store"),
        lock=str(tmp_path / "lock"),
        systemctl=str(systemctl),
        place=place,
    )
    if os.path.ismount(place.root):
        subprocess.run(["umount", place.root], check=True)


def request(values: dict[str, str], identity: age.Identity = MACHINE) -> bytes:
    document = json.dumps(store.nest(values)).encode()
    file = sops.encrypt(document, [MACHINE.recipient], source="json")
    return json.dumps({"identity": identity.secret, "file": file.decode()}).encode()


def install(world: guest.World, values: dict[str, str]) -> dict[str, Any]:
    return guest.install(world, request(values))


def in_force(world: guest.World) -> dict[str, str]:
    found = generations.read(generations.current(world.place))
    return {name: value.decode() for name, value in found.items()}


def calls(world: guest.World) -> list[str]:
    path = Path(world.systemctl).with_name("calls")
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def numbers(world: guest.World) -> list[str]:
    return sorted(path.name for path in Path(world.place.root).iterdir())


def kept(world: guest.World) -> bytes | None:
    path = Path(world.store) / "secrets.sops.yaml"
    return path.read_bytes() if path.exists() else None


def test_the_first_installation(world: guest.World) -> None:
    report = install(world, FIRST)
    assert report["ok"], report
    assert report["changed"] == sorted(NAMES)
    assert in_force(world) == FIRST
    assert calls(world) == ["restart deep.service nats.service redis.service"]
    assert not any(value in json.dumps(report) for value in FIRST.values())


def test_owners_and_modes(world: guest.World) -> None:
    report = install(world, FIRST)
    owners = {placed["name"]: placed["owner"] for placed in report["secrets"]}
    assert owners == {"redis/password": "daemon", "nats/password": "root", "deep/er/secret": "root"}
    assert {placed["mode"] for placed in report["secrets"]} == {"0400"}
    top = Path(str(generations.current(world.place)))
    assert {path.stat().st_mode & 0o7777 for path in [top, *top.rglob("*")] if path.is_dir()} == {
        0o751
    }


def test_they_lie_in_memory_that_runs_nothing(world: guest.World) -> None:
    install(world, FIRST)
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    (found,) = [line.split() for line in mounts if line.split()[4] == world.place.root]
    assert found[found.index("-") + 1] == "ramfs"
    assert {"nosuid", "nodev", "noexec"} <= set(found[5].split(","))


def test_key_and_file_are_kept_private(world: guest.World) -> None:
    install(world, FIRST)
    assert Path(world.store).stat().st_mode & 0o7777 == 0o700
    for name in ("age.key", "secrets.sops.yaml"):
        assert (Path(world.store) / name).stat().st_mode & 0o7777 == 0o400
    assert not any(value.encode() in (kept(world) or b"") for value in FIRST.values())


def test_again_changes_nothing(world: guest.World) -> None:
    install(world, FIRST)
    calls(world)
    before, link = kept(world), Path(world.place.link).readlink()
    report = install(world, FIRST)
    assert report["ok"]
    assert report["changed"] == []
    assert calls(world) == []
    assert (kept(world), Path(world.place.link).readlink()) == (before, link)


def test_a_change_restarts_what_uses_it_and_leaves_one_generation(world: guest.World) -> None:
    install(world, FIRST)
    calls(world)
    report = install(world, SECOND)
    assert report["changed"] == ["redis/password"]
    assert calls(world) == ["restart redis.service"]
    assert in_force(world) == SECOND
    assert len(numbers(world)) == 1


def test_a_secret_that_left_the_plan_goes_away(world: guest.World) -> None:
    install(world, FIRST)
    smaller = plan()
    del smaller["secrets"]["nats/password"]
    Path(world.plan).write_text(json.dumps(smaller))
    assert install(world, FIRST)["ok"]
    assert "nats/password" not in in_force(world)


def test_what_the_plan_does_not_name_is_not_placed(world: guest.World) -> None:
    install(world, FIRST | {"other/secret": "x"})
    assert set(in_force(world)) == set(NAMES)


def broken(world: guest.World) -> None:
    Path(world.systemctl).with_name("broken").touch()


def test_a_service_that_does_not_start_takes_it_back(world: guest.World) -> None:
    install(world, FIRST)
    before, _ = kept(world), calls(world)
    broken(world)
    report = install(world, SECOND)
    assert (report["ok"], report["stage"]) == (False, "refresh")
    assert "Job for redis.service failed." in report["error"]
    assert in_force(world) == FIRST
    assert kept(world) == before
    assert len(numbers(world)) == 1
    assert calls(world) == ["restart redis.service"] * 2


def test_a_first_installation_that_fails_leaves_nothing(world: guest.World) -> None:
    broken(world)
    assert not install(world, FIRST)["ok"]
    assert not os.path.lexists(world.place.link)
    assert numbers(world) == []
    assert kept(world) is None


def test_a_service_that_does_not_take_it_takes_it_back(world: guest.World) -> None:
    install(world, FIRST)
    deaf = plan(redis={"ports": [{"name": "redis", "port": 1}]})  # nothing listens there
    Path(world.plan).write_text(json.dumps(deaf))
    report = install(world, SECOND)
    assert (report["ok"], report["stage"]) == (False, "prove")
    assert report["error"].startswith("redis: ")
    assert in_force(world) == FIRST


def test_an_unexpected_end_takes_it_back(
    world: guest.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(world, FIRST)

    def killed(*_: object) -> None:
        raise SystemExit(1)

    monkeypatch.setattr(takeover, "prove", killed)
    with pytest.raises(SystemExit):
        install(world, SECOND)
    assert in_force(world) == FIRST


def test_a_service_at_rest_that_lost_its_secret_is_restarted(
    world: guest.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(world, FIRST)
    calls(world)
    faults = [takeover.Unproven("redis: it forgot")]

    def prove(*_: object) -> list[dict[str, Any]]:
        if faults:
            raise faults.pop()
        return []

    monkeypatch.setattr(takeover, "prove", prove)
    assert install(world, FIRST)["ok"]
    assert calls(world) == ["restart redis.service nats.service deep.service"]


def test_a_missing_value(world: guest.World) -> None:
    install(world, FIRST)
    fewer = {name: value for name, value in SECOND.items() if name != "nats/password"}
    report = install(world, fewer)
    assert (report["ok"], report["stage"]) == (False, "decrypt")
    assert "the file lacks nats/password" in report["error"]
    assert in_force(world) == FIRST


def test_another_machines_key(world: guest.World) -> None:
    report = guest.install(world, request(FIRST, age.generate()))
    assert (report["ok"], report["stage"]) == (False, "decrypt")
    assert not os.path.lexists(world.place.link)


def test_a_changed_file(world: guest.World) -> None:
    document = json.loads(request(FIRST))
    document["file"] = document["file"].replace('lastmodified: "20', 'lastmodified: "19')
    report = guest.install(world, json.dumps(document).encode())
    assert (report["ok"], report["stage"]) == (False, "decrypt")


def test_two_at_once(world: guest.World) -> None:
    with guest._locked(world.lock):
        report = install(world, FIRST)
    assert (report["ok"], report["stage"]) == (False, "request")
    assert "another installation" in report["error"]


def reboot(world: guest.World) -> None:
    subprocess.run(["umount", world.place.root], check=True)
    Path(world.place.link).unlink()


def test_after_a_reboot(world: guest.World) -> None:
    install(world, FIRST)
    reboot(world)
    calls(world)
    assert guest.boot(world) == 0
    assert in_force(world) == FIRST
    assert calls(world) == []


@pytest.mark.parametrize("name", ["age.key", "secrets.sops.yaml"])
def test_a_reboot_with_a_damaged_store(
    world: guest.World, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    install(world, FIRST)
    reboot(world)
    (Path(world.store) / name).write_text("damaged")
    assert guest.boot(world) == 1
    assert "secrets: sops cannot decrypt" in capsys.readouterr().err
    assert in_force(world) == {}
