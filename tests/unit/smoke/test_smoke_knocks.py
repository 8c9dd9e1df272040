"""Connections that are made ahead of the logins that must fail."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from rave_cli.machines import identity
from rave_cli.smoke import knocks, outside
from rave_cli.smoke.context import CheckContext
from rave_cli.smoke.operator import Operator
from tests.unit.machines.fake_sshd import FakeSshd
from tests.waiting import CEILING

if TYPE_CHECKING:
    import pytest

    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan


def test_what_was_made_ahead_is_lent_once(machine: Machine, plan: Plan, image: Image) -> None:
    identity.write(machine)
    with FakeSshd(machine.host_key.read_bytes(), "") as sshd:
        context = CheckContext(machine, plan, image, {22: sshd.port}, Operator(), {})
        context.knocks.make(machine, sshd.port, 2)
        with outside.transport(context, 10) as first, outside.transport(context, 10) as second:
            assert first is not second
            assert first.is_active()
            assert context.knocks.take() is None
        assert not first.is_active()
        with outside.transport(context, 10) as third:
            assert third.is_active(), "the third was made when it was needed"
        assert sshd.logins == [], "nothing was tried over any of them"


def test_one_that_waited_too_long_is_closed_and_replaced(
    machine: Machine, plan: Plan, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity.write(machine)
    with FakeSshd(machine.host_key.read_bytes(), "") as sshd:
        context = CheckContext(machine, plan, image, {22: sshd.port}, Operator(), {})
        stale = knocks.knock(machine, sshd.port, 10)
        context.knocks.put(stale)
        monkeypatch.setattr(knocks, "FRESH", 0.0)
        with outside.transport(context, 10) as opened:
            assert opened is not stale
        assert not stale.is_active()


def test_what_nobody_took_is_closed(machine: Machine) -> None:
    identity.write(machine)
    waiting = knocks.Knocks()
    with FakeSshd(machine.host_key.read_bytes(), "") as sshd:
        opened = knocks.knock(machine, sshd.port, 10)
        waiting.put(opened)
        waiting.close()
        assert not opened.is_active()
    assert waiting.take() is None


def test_a_machine_that_answers_nobody_is_left_to_the_checks(machine: Machine) -> None:
    identity.write(machine)
    waiting = knocks.Knocks()
    with FakeSshd(machine.host_key.read_bytes(), "") as sshd:
        port = sshd.port
    waiting.make(machine, port, 3)
    assert waiting.take() is None


def test_another_host_key_is_not_lent(machine: Machine) -> None:
    identity.write(machine)
    waiting = knocks.Knocks()
    with FakeSshd(machine.login_key.read_bytes(), "") as sshd:
        waiting.make(machine, sshd.port, 1)
        assert sshd.logins == []
    assert waiting.take() is None


def test_none_is_made_where_none_is_needed(machine: Machine) -> None:
    waiting = knocks.Knocks()
    waiting.expect()
    waiting.make(machine, 1, 0)
    assert waiting.take() is None
    assert not waiting.answered(CEILING)


def test_whoever_asks_whether_sshd_answered_waits_for_those_under_way(machine: Machine) -> None:
    identity.write(machine)
    waiting = knocks.Knocks()
    assert not waiting.answered(CEILING), "none is expected"
    waiting.expect()
    assert not waiting.answered(0.01)
    with FakeSshd(machine.host_key.read_bytes(), "") as sshd:
        with ThreadPoolExecutor(1) as beside:
            asked = beside.submit(waiting.answered, CEILING)
            waiting.make(machine, sshd.port, 1)
            assert asked.result(CEILING)
        waiting.close()
