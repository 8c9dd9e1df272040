"""The public origin of a machine: what is one, which port it gets, and that it keeps it."""

from __future__ import annotations

import socket
import uuid
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import public, saved
from rave_cli.machines.qemu.argv import qemu_argv
from rave_cli.machines.qemu.credentials import ORIGIN, blob_paths
from rave_cli.machines.spec import Forward, Machine, locate
from tests.unit.machines.test_argv import SPEC, TCG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.machines.spec import MachineSpec

LABEL = st.text("abcxyz0189", min_size=1, max_size=20)
ANY = replace(SPEC, forwards=(Forward(0, 22), Forward(0, 3002)))


def fresh() -> MachineSpec:
    return replace(ANY, uuid=str(uuid.uuid4()))


@contextmanager
def taken(port: int) -> Iterator[None]:
    """Another program listens there."""
    with socket.socket() as other:
        other.bind((public.LOOPBACK, port))
        other.listen()
        yield


@given(labels=st.lists(LABEL, min_size=1, max_size=4), port=st.integers(1, 65535))
def test_an_origin_is_kept_as_it_was_written(labels: list[str], port: int) -> None:
    text = f"https://{'.'.join([*labels, 'org'])}"
    assert public.parse(text) == public.parse(f"{text}/") == public.parse(f"{text}:443") == text
    wanted = text if port == 443 else f"{text}:{port}"
    assert public.parse(f"{text}:{port}") == public.parse(wanted) == wanted


@given(text=st.text(max_size=40))
def test_any_text_is_an_origin_or_refused(text: str) -> None:
    try:
        found = public.parse(text)
    except RaveError:
        return
    assert found.startswith("https://")
    assert public.parse(found) == found


@pytest.mark.parametrize(
    "text",
    [
        "http://rave.example.org", "rave.example.org", "https://localhost", "https://10.0.0.1",
        "https://rave.example.org/wiki", "https://me@rave.example.org", "https://Rave.example.org",
        "https://rave.example.org:0", "https://rave.example.org:65536", "https://a..b",
        "https://-a.org", "https://rave.example.org\nx", f"https://{'a.' * 120}org", "",
    ],
)  # fmt: skip
def test_what_is_no_origin_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(RaveError, match="--origin") as caught:
        public.parse(text)
    assert "--origin https://" in str(caught.value.hint)
    assert caught.value.exit_code == ExitCode.USAGE


def test_a_machine_gets_a_free_port_and_keeps_it() -> None:
    spec = public.settle(fresh(), 3002)
    assert spec.pages is not None
    assert spec.pages.host in public.PORTS
    assert spec.public_origin == f"https://rave.localhost:{spec.pages.host}"
    assert spec.leading == (Forward(0, 22), Forward(spec.pages.host, 3002))
    assert public.settle(spec, 3002) == spec


def test_a_port_that_another_program_took_is_given_up_for_another() -> None:
    spec = public.settle(fresh(), 3002)
    assert spec.pages is not None
    with taken(spec.pages.host):
        other = public.settle(spec, 3002)
        assert other.pages is not None
        assert other.pages.host not in (0, spec.pages.host)
        # A guest that goes on still has the one it was told.
        assert public.for_now(spec).leading == spec.forwards
    assert public.for_now(spec) == spec


def test_a_port_that_was_asked_for_stays_also_where_it_is_taken() -> None:
    spec = public.settle(replace(fresh(), forwards=SPEC.forwards), 3002)
    assert spec.public_origin == "https://rave.localhost:8443"
    assert spec.leading == SPEC.forwards
    assert public.for_now(spec) == spec


def test_an_origin_of_its_own_stands_before_the_port() -> None:
    spec = public.settle(replace(fresh(), own_origin="https://rave.example.org"), 3002)
    assert spec.public_origin == "https://rave.example.org"
    assert spec.pages is not None


@pytest.mark.parametrize("guest", [None, 0, 80])
def test_a_machine_without_pages_has_no_origin(guest: int | None) -> None:
    spec = public.settle(fresh(), guest)
    assert (spec.pages, spec.public_origin) == (None, None)


def located(spec: MachineSpec) -> Machine:
    return replace(locate(spec), directory=Path("/machine"), runtime=Path("/run/machine"))


def test_qemu_is_told_the_port_and_the_guest_the_origin() -> None:
    machine = located(replace(ANY, pages=Forward(23456, 3002)))
    argv = qemu_argv(machine, TCG)
    assert any("hostfwd=tcp:127.0.0.1:23456-:3002" in word for word in argv)
    assert ORIGIN in {path.name for path in blob_paths(machine)}
    # One made before that, and still suspended, goes on with the command line that it had.
    assert ORIGIN not in {path.name for path in blob_paths(located(ANY))}


def test_a_machine_that_was_suspended_before_the_host_made_certificates_goes_on() -> None:
    machine = located(replace(ANY, pages=Forward(23456, 3002)))
    argv = qemu_argv(machine, TCG)
    blobs = [at for at, word in enumerate(argv) if "/rave.tls-" in word]
    before = [word for at, word in enumerate(argv) if not {at, at + 1} & set(blobs)]
    assert (len(blobs), len(argv) - len(before)) == (2, 4)
    assert saved.shape(argv, machine) == saved.shape(before, machine)
    assert saved.shape(argv, machine) != saved.shape([*before, "-snapshot"], machine)


def test_a_suspended_machine_goes_on_with_another_port_where_its_own_is_taken() -> None:
    machine = located(replace(ANY, pages=Forward(23456, 3002)))
    with taken(23456):
        spare = replace(machine, spec=public.for_now(machine.spec))
    argv = qemu_argv(spare, TCG)
    assert any("hostfwd=tcp:127.0.0.1:0-:3002" in word for word in argv)
    assert saved.shape(argv, machine) == saved.shape(qemu_argv(machine, TCG), machine)
