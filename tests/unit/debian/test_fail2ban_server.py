"""fail2ban's server as the guest starts it: its threads wait for what happens.

fail2ban itself is not here; tests/e2e/test_smoke.py is banned by the real one.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.waiting import CEILING

SERVER = Path("infra/debian/services/fail2ban/rootfs/usr/lib/rave/fail2ban-server")
LEFT_OUT = ("_hashlib", "_uuid", "bz2", "fail2ban.server.database", "lzma")

# What imports them: fail2ban's own filter and action, and the journal's.
WITHOUT = """
import hashlib, hmac, random, shutil, tempfile, uuid
assert hashlib.md5(b"").hexdigest() == "d41d8cd98f00b204e9800998ecf8427e"
assert uuid.UUID(int=7).hex.endswith("7")
try:
    import fail2ban.server.database
except ImportError:
    print("gone without", *(n for n in sys.modules if sys.modules[n] is None))
"""


class Utils:
    DEFAULT_SLEEP_TIME = 2
    DEFAULT_SLEEP_INTERVAL = 0.2


class Jail:
    def __init__(self) -> None:
        self.tickets: list[str] = []

    def putFailTicket(self, ticket: str) -> None:  # noqa: N802 - fail2ban's
        self.tickets.append(ticket)


class Actions:
    active = True

    def stop(self) -> None:
        self.active = False


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program, loaded over what it needs of fail2ban."""
    jail = type("Jail", (Jail,), {"putFailTicket": Jail.putFailTicket})
    actions = type("Actions", (Actions,), {"stop": Actions.stop})
    modules: dict[str, dict[str, Any]] = {
        "fail2ban": {}, "fail2ban.client": {}, "fail2ban.server": {},
        "fail2ban.client.fail2banserver": {"exec_command_line": None},
        "fail2ban.server.actions": {"Actions": actions, "Utils": Utils},
        "fail2ban.server.filtersystemd": {"Utils": Utils},
        "fail2ban.server.jail": {"Jail": jail},
        "fail2ban.server.utils": {"Utils": Utils},
    }  # fmt: skip
    for name, members in modules.items():
        module = ModuleType(name)
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, last = name.rpartition(".")
        if parent:
            monkeypatch.setattr(sys.modules[parent], last, module, raising=False)
    for name in LEFT_OUT:
        monkeypatch.setitem(sys.modules, name, sys.modules.get(name))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("fail2ban_server", str(SERVER))
    spec = spec_from_loader("fail2ban_server", loader)
    assert spec is not None
    program = module_from_spec(spec)
    loader.exec_module(program)
    return program


def test_a_ban_that_is_due_ends_the_wait_at_once(server: Any) -> None:
    jail = server.Jail()
    waited: list[float] = []

    def wait() -> None:
        began = time.monotonic()
        assert server.actions.Utils.wait_for(lambda: bool(jail.tickets), CEILING)
        waited.append(time.monotonic() - began)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    jail.putFailTicket("a ticket")
    thread.join(CEILING)
    assert waited
    assert waited[0] < CEILING / 2


def test_a_stop_ends_the_wait_at_once(server: Any) -> None:
    actions = server.actions.Actions()
    thread = threading.Thread(
        target=server.actions.Utils.wait_for, args=(lambda: not actions.active, CEILING)
    )
    thread.start()
    actions.stop()
    thread.join(CEILING / 2)
    assert not thread.is_alive()


def test_a_wait_for_nothing_ends_after_its_time_and_says_so(server: Any) -> None:
    looks: list[int] = []
    assert not server.actions.Utils.wait_for(lambda: looks.append(1), 0.2)
    assert len(looks) <= 3, "it does not look again and again"
    assert not server.actions.Utils.wait_for(lambda: False, lambda: True)


def test_the_journal_s_thread_alone_is_given_longer_waits(server: Any) -> None:
    assert server.filtersystemd.Utils.DEFAULT_SLEEP_INTERVAL == 2.0
    assert server.filtersystemd.Utils.DEFAULT_SLEEP_TIME == Utils.DEFAULT_SLEEP_TIME
    assert Utils.DEFAULT_SLEEP_INTERVAL == 0.2


def test_python_goes_without_what_is_not_imported() -> None:
    head, found, _ = SERVER.read_text().partition("\nfrom fail2ban")
    assert found
    done = subprocess.run(
        [sys.executable, "-IS", "-c", head + WITHOUT],
        capture_output=True, text=True, timeout=CEILING, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    words = done.stdout.split()
    assert words[:2] == ["gone", "without"]
    assert set(LEFT_OUT) <= set(words[2:])
