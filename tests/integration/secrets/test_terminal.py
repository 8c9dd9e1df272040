"""A terminal that is closed while secrets are in use: no plaintext, no program is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rave_cli.profiles.catalog import parse
from rave_cli.profiles.names import BAKED
from rave_cli.secrets import store
from rave_cli.secrets.init import init
from tests.terminal import RAVE, Terminal
from tests.unit.machines.conftest import host, image, machine, plan, short_home, sshd
from tests.unit.machines.test_terminal import each_end, outside, start
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.machines.spec import Machine
    from tests.unit.machines.fake_sshd import FakeSshd
    from tests.unit.machines.test_terminal import End

__all__ = ["host", "image", "machine", "outside", "plan", "short_home", "sshd"]

pytestmark = pytest.mark.integration

# Names the editor of this run of the tests.
MARK = f"63.{os.getpid()}"

SHM = Path("/dev/shm")


@pytest.fixture
def secrets_file(home: Path) -> Path:
    """The operator's file, with a value for every secret of the catalog."""
    file = store.default_file()
    init(file, parse(BAKED.read_bytes()).secrets)
    return file


@pytest.fixture
def memory(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A session whose runtime directory lies in memory."""
    with tempfile.TemporaryDirectory(prefix="rave-test-", dir=SHM) as place:
        monkeypatch.setenv("XDG_RUNTIME_DIR", place)
        yield Path(place)


@pytest.fixture
def editor(tmp_path: Path) -> Path:
    """An editor that shows where its file is, and stays."""
    script = tmp_path / "editor"
    script.write_text(f'#!/bin/sh\nprintf "editing %s\\n" "$1"\nexec sleep {MARK}\n')
    script.chmod(0o755)
    return script


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_an_edit_that_is_ended_leaves_no_plaintext_and_no_editor(
    secrets_file: Path, memory: Path, editor: Path, number: signal.Signals
) -> None:
    before = secrets_file.read_bytes()
    with Terminal([*RAVE, "secrets", "edit"], env={"EDITOR": str(editor)}) as terminal:
        terminal.until("editing ")
        assert [p.name for p in memory.glob("rave-edit-*/*.yaml")] == ["secrets.yaml"]
        if number == signal.SIGHUP:
            terminal.close()
        else:
            terminal.child.send_signal(number)
        assert terminal.end() == 128 + number
    assert list(memory.glob("rave-edit-*")) == []
    assert secrets_file.read_bytes() == before
    left = subprocess.run(["pgrep", "-f", f"sleep {MARK}"], capture_output=True, check=False)
    assert left.stdout == b""
    with store.locked(secrets_file):
        pass


def test_ctrl_c_in_the_editor_is_the_editors_own(
    secrets_file: Path, memory: Path, tmp_path: Path
) -> None:
    script = tmp_path / "editor"
    script.write_text(
        '#!/bin/sh\ntrap "echo interrupted; exit 0" INT\necho ready\nsleep 60 & wait\n'
    )
    script.chmod(0o755)
    with Terminal([*RAVE, "secrets", "edit"], env={"EDITOR": str(script)}) as terminal:
        terminal.until("ready")
        terminal.type("\x03")
        assert terminal.end() == 0
    assert "unchanged" in terminal.shown


@each_end
@pytest.mark.usefixtures("outside", "secrets_file")
def test_an_installation_that_is_ended_leaves_the_machine_alone(
    machine: Machine, sshd: FakeSshd, ending: End
) -> None:
    begun, over = threading.Event(), threading.Event()

    def handler(_command: str, _data: bytes) -> tuple[int, bytes, bytes]:
        begun.set()
        over.wait(CEILING)
        return 0, b"", b""

    sshd.handler = handler
    start(machine)
    with Terminal([*RAVE, "secrets", "install", "demo"]) as terminal:
        assert begun.wait(CEILING)
        ending[0](terminal)
        assert terminal.end() == ending[1]
    over.set()
    assert "Traceback" not in terminal.shown
    with store.locked(store.default_file()):
        pass
