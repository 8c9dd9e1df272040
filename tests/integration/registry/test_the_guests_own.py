"""The registry of the guest: its settings and programs as the image has them, before a real one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest

from rave_guest.proof import WRONG, Unproven
from rave_guest.services import docker_registry
from rave_guest.wire.images import Registry, RegistryError, digest
from tests.debian import BASE, plan, rendered
from tests.registries import free_port
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_guest.system import System

pytestmark = pytest.mark.integration

PASSWORD = "of a robot"
SETTINGS = "etc/rave/docker-registry/config.yml"
SERVICE = BASE / "services/docker-registry"


class Guest:
    """What the image and systemd lay out for it, below a directory."""

    def __init__(self, place: Path) -> None:
        self.place, self.state = place, place / "state"
        self.web, self.metrics = free_port(), free_port()
        self.state.mkdir()
        (place / "secrets/docker-registry").mkdir(parents=True)
        (place / "secrets/docker-registry/password").write_text(PASSWORD)
        text = rendered("development")[SETTINGS]
        for here, there in {
            "/var/lib/docker-registry": self.state, "/run/rave": place,
            "127.0.0.1:5000": f"127.0.0.1:{self.web}",
            "127.0.0.1:5001": f"127.0.0.1:{self.metrics}",
        }.items():  # fmt: skip
            assert here in text
            text = text.replace(here, str(there))
        (place / "config.yml").write_text(text)
        self.admit()

    def admit(self) -> None:
        """Write who comes, by the program that does it before each start."""
        library = (BASE / "rootfs/usr/lib/rave/auth.sh").read_text()
        library = library.replace("/run/secrets", str(self.place / "secrets"))
        (self.place / "auth.sh").write_text(library.replace("/run/rave", str(self.place)))
        program = (SERVICE / "rootfs/usr/lib/rave/docker-registry-auth").read_text()
        program = program.replace("/usr/lib/rave", str(self.place))
        # Files of another account are for who is root.
        program = program.replace("prepare docker-registry-auth docker-registry\n", "")
        subprocess.run(["sh", "-c", program], check=True)

    @contextmanager
    def running(self) -> Iterator[Registry]:
        argv = ["docker-registry", "serve", str(self.place / "config.yml")]
        with (
            (self.place / "log").open("ab") as log,
            subprocess.Popen(argv, stdout=log, stderr=log) as process,
        ):
            try:
                registry = Registry(self.web, docker_registry.USER, PASSWORD, 60)
                until(lambda: process.poll() is not None or _answers(registry))
                yield registry
            finally:
                process.terminate()

    def collect(self) -> None:
        program = (SERVICE / "rootfs/usr/lib/rave/docker-registry-collect").read_text()
        program = program.replace("/var/lib/docker-registry", str(self.state))
        program = program.replace("/etc/rave/docker-registry", str(self.place))
        subprocess.run(["sh", "-c", program], check=True, capture_output=True)

    def check(self) -> Any:
        arguments = {"port": self.web, "secret": str(self.place / "secrets")}
        system: System = Machine()  # type: ignore[assignment]
        return docker_registry.image(arguments, system)


class Machine:
    """A machine with the secret in force."""

    def secret(self, _path: str) -> str | None:
        return PASSWORD


def _answers(registry: Registry) -> bool:
    try:
        return registry.known()
    except OSError:
        return False


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


def test_an_image_is_pushed_pulled_and_deleted_and_strangers_are_refused(guest: Guest) -> None:
    with guest.running() as registry:
        found = guest.check()
        assert found.status == "pass", found
        assert set(found.data) == {"push", "pull"}
        assert not Registry(guest.web, docker_registry.USER, WRONG, 60).known()
        assert not Registry(guest.web, "", "", 60).known()
        # What it left behind is no image any more.
        with pytest.raises(RegistryError, match="404"):
            registry.pull(docker_registry.REPOSITORY, digest(b"another"))


def test_a_password_is_proven_by_who_is_let_in_with_it(guest: Guest) -> None:
    ports = {"docker-registry": {"ports": [{"name": "web", "port": guest.web}]}}
    with guest.running():
        (proof,) = docker_registry.proofs({"services": ports}, docker_registry.PASSWORD)
        assert proof.ask(PASSWORD, None) == ["wrong"]
        assert proof.ask(PASSWORD, "another") == ["previous"]
        with pytest.raises(Unproven, match="does not take the installed password"):
            proof.ask("another", None)
        with pytest.raises(Unproven, match="takes another password"):
            proof.ask(PASSWORD, PASSWORD)


def test_what_no_image_names_is_collected_while_it_is_away(guest: Guest) -> None:
    # Before the first image there is nothing to do, which is no fault.
    guest.collect()
    with guest.running() as registry:
        kept = registry.push("team/app", b"layer")
        gone = registry.push("team/app", b"another")
        registry.delete("team/app", gone)
    layers = guest.state / docker_registry.BLOBS
    before = {place.parent.name for place in layers.rglob("data")}
    guest.collect()
    after = {place.parent.name for place in layers.rglob("data")}
    assert digest(b"another").partition(":")[2] in before - after
    with guest.running() as registry:
        assert registry.pull("team/app", kept) == b"layer"
        assert registry.push("team/app", b"another") == gone


def test_what_is_kept_of_it_is_a_registry_again(guest: Guest, tmp_path: Path) -> None:
    with guest.running() as registry:
        name = registry.push("team/app", b"layer")
        begun = guest.state / "docker/registry/v2/repositories/team/app/_uploads/one"
        begun.mkdir(parents=True)
        (begun / "data").write_bytes(b"half a layer")
        items = {
            n: b"".join(pieces) for n, pieces in docker_registry.keep({}, str(guest.state), "")
        }
    names = [entry[0] for entry in json.loads(items["files.json"])]
    assert len(names) == len(set(names))
    assert not [entry for entry in names if "_uploads" in entry]
    # What names layers was read before them.
    blobs = names.index(docker_registry.BLOBS)
    assert not [entry for entry in names[blobs:] if not entry.startswith(docker_registry.BLOBS)]
    folder = tmp_path / "items"
    folder.mkdir()
    for item, data in items.items():
        (folder / item).write_bytes(data)
    shutil.rmtree(guest.state)
    guest.state.mkdir()
    docker_registry.put(str(folder), str(guest.state), "")
    with guest.running() as registry:
        assert registry.pull("team/app", name) == b"layer"


def test_it_answers_the_health_questions_of_its_record_and_counts_what_fails(guest: Guest) -> None:
    record = plan("development")["services"]["docker-registry"]
    alerts = plan("development")["facts"]["alerts"]
    (alert,) = (one["expr"] for one in alerts if one["alert"] == "RegistryFails")
    (counter,) = re.findall(r"(\w+)\{", alert)
    ports = {"5000": guest.web, "5001": guest.metrics}
    with guest.running() as registry:
        for check in record["checks"]:
            url = re.sub(r":(\d{4})/", lambda found: f":{ports[found[1]]}/", check["url"])
            status, body = ask(url)
            assert status == check["status"], url
            assert check.get("contains", "") in body
        registry.push("team/app", b"layer")
        # It cannot write any more.
        shutil.rmtree(guest.state)
        guest.state.write_text("no directory")
        with pytest.raises(RegistryError, match=r"500|503"):
            registry.push("team/app", b"another")
        _, metrics = ask(f"http://127.0.0.1:{guest.metrics}{record['scrape']['path']}")
        assert [
            line for line in metrics.splitlines()
            if line.startswith(f"{counter}{{") and re.search(r'code="5\d\d"', line)
        ]  # fmt: skip


def ask(url: str) -> tuple[int, str]:
    from urllib.error import HTTPError

    try:
        with urlopen(url, timeout=60) as answer:  # noqa: S310 - this host's
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()
