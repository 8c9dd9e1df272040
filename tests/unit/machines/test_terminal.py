"""A terminal that is closed, or Ctrl-C in it, at each stage: nothing is left behind."""

from __future__ import annotations

import json
import signal
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rave_cli import paths
from rave_cli.images.build import ImagePlace
from rave_cli.images.manifest import save_image
from rave_cli.machines import lifecycle, store
from rave_cli.machines.qemu import accelerator
from tests.terminal import RAVE, Terminal
from tests.unit.machines.conftest import HEALTHY, TCG, Host, running_fakes
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from tests.unit.machines.fake_sshd import FakeSshd

End = tuple["Callable[[Terminal], None]", int]

# How a person ends a command, and the exit code that tells of it.
ENDS: list[End] = [
    (Terminal.close, 128 + signal.SIGHUP),
    (lambda terminal: terminal.type("\x03"), 128 + signal.SIGINT),
    (lambda terminal: terminal.child.terminate(), 128 + signal.SIGTERM),
]
each_end = pytest.mark.parametrize("ending", ENDS, ids=["closed", "ctrl-c", "terminated"])


@pytest.fixture
def outside(host: Host, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory outside of any checkout, on a host whose accelerator is known."""
    qemu = host.bin / "qemu-system-x86_64"
    answer = accelerator._Answer(key=accelerator._key(qemu), accelerator=TCG)
    accelerator.ANSWER.write(paths.cache_dir() / "accelerator.json", answer)
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def built(outside: Path, image: Image, plan: Plan) -> Image:
    """An image that rave knows to have built."""
    place = ImagePlace(plan.attr)
    there = replace(image, store_path=str(image.qcow2.parent))
    save_image(there, place.manifest)
    place.out_link.symlink_to(there.store_path)
    return there


@pytest.fixture
def slow(host: Host) -> None:
    """A guest that says something and then takes its time."""
    host.behave(steps=[*HEALTHY[:2], {"sleep": 60}])


@each_end
@pytest.mark.usefixtures("outside", "slow")
def test_a_start_that_is_ended_leaves_no_qemu(machine: Machine, host: Host, ending: End) -> None:
    with Terminal([*RAVE, "vm", "start", "demo"]) as terminal:
        terminal.until("systemd")
        ending[0](terminal)
        assert terminal.end() == ending[1]
    assert running_fakes(host.bin) == []
    assert sorted(machine.runtime.glob("credential*")) == []
    with store.locked("demo"):
        pass


@each_end
@pytest.mark.usefixtures("built", "slow")
def test_a_smoke_run_that_is_ended_leaves_no_machine(host: Host, ending: End) -> None:
    argv = [*RAVE, "smoke", "run", "--profile", "demo", "--base", "debian"]
    with Terminal(argv) as terminal:
        terminal.until("systemd")
        ending[0](terminal)
        assert terminal.end() == ending[1]
    assert running_fakes(host.bin) == []
    assert store.list_machines() == []
    assert [p for p in (paths.data_dir() / "vms").iterdir() if p.is_dir()] == []
    assert not [p for p in paths.runtime_dir().iterdir() if p.name.startswith("smoke-")]


@pytest.mark.usefixtures("built", "slow")
def test_whoever_loses_patience_with_the_clean_up_does_not_break_it_off(host: Host) -> None:
    """Ctrl-C again and again, and the terminal closed at last: the machine goes all the same."""
    host.behave(powerdown=False, quit=False)
    argv = [*RAVE, "smoke", "run", "--profile", "demo", "--base", "debian"]
    with Terminal(argv) as terminal:
        terminal.until("systemd")
        for _ in range(5):
            terminal.type("\x03")
            terminal.child.terminate()
        terminal.close()
        assert terminal.end() in {code for _, code in ENDS}
    assert running_fakes(host.bin) == []
    assert store.list_machines() == []


@each_end
@pytest.mark.usefixtures("outside")
def test_checks_that_are_ended_leave_the_machine_running_and_an_aborted_transcript(
    machine: Machine, host: Host, busy: threading.Event, ending: End, tmp_path: Path
) -> None:
    start(machine)
    argv = [*RAVE, "smoke", "run", "--vm", "demo", "--output", str(tmp_path / "out")]
    with Terminal(argv) as terminal:
        assert busy.wait(CEILING)
        ending[0](terminal)
        assert terminal.end() == ending[1]
    assert len(running_fakes(host.bin)) == 1
    (document,) = (tmp_path / "out").glob("boot_transcript_*Z.json")
    assert json.loads(document.read_text())["overall_status"] == "ABORTED"


@pytest.fixture
def busy(sshd: FakeSshd) -> Iterator[threading.Event]:
    """Let every command in the guest take for ever; the event says that one has begun."""
    begun, over = threading.Event(), threading.Event()

    def handler(_command: str, _data: bytes) -> tuple[int, bytes, bytes]:
        begun.set()
        over.wait(CEILING)
        return 0, b"", b""

    sshd.handler = handler
    yield begun
    over.set()


def start(machine: Machine) -> None:
    """Start a machine as another command would have."""
    lifecycle.start(machine, on_stage=lambda _stage: None)
