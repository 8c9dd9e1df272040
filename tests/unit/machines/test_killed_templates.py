"""rave killed at each step, and QEMU at each order, of making a template and of starting from one.

Each time there is a template or none, and a machine that the next command boots or goes on with.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from rave_cli.machines import lifecycle, status
from rave_cli.machines.templates import kept, key, making, pruning, warm
from rave_cli.paths import private_dir, runtime_dir
from tests.unit.machines.conftest import TCG, running_fakes
from tests.unit.machines.crashes import every_order, every_step
from tests.unit.machines.test_templates import _no_settling, quiet, spec, sshd_of, template
from tests.waiting import until

if TYPE_CHECKING:
    from rave_cli.machines.spec import MachineSpec
    from rave_cli.machines.templates.kept import MachineTemplate
    from tests.unit.machines.conftest import Host
    from tests.unit.machines.fake_sshd import FakeSshd

__all__ = ["_no_settling", "spec", "sshd_of", "template"]


def test_a_start_that_is_killed_anywhere_is_booted_by_the_next_command(
    template: MachineTemplate, spec: MachineSpec, host: Host
) -> None:
    machine = warm.create(spec, template)

    def anew() -> None:
        nonlocal machine
        lifecycle.delete("two", force=True)
        machine = warm.create(spec, template)

    seen = set()
    start = lambda: warm.start(machine, template, on_stage=quiet)  # noqa: E731 - it is anew each time
    for _ in every_step(start, before=anew, least=40):
        found = status.of(machine)
        seen.add(found.state)
        assert found.state in ("stopped", "starting", "running")
        broken = found.process is not None and machine.restoring.exists()
        assert broken == ("rave vm start two" in found.detail)
        ready = lifecycle.start(machine, on_stage=quiet)
        assert ready.joined == (found.process is not None and not broken)
        assert not machine.restoring.exists()
        assert len(running_fakes(host.bin)) == 1
    assert seen >= {"stopped", "starting"}


def test_a_builder_that_is_killed_anywhere_leaves_a_template_or_none(
    spec: MachineSpec, sshd_of: list[FakeSshd], host: Host
) -> None:
    name = key.key_of(spec, TCG).name
    for _ in every_step(lambda: making.make(spec, on_stage=quiet), least=60, dear=2):
        for left in pruning.find(templates=False):
            assert f"template {name}" in left.why
            assert pruning.remove(left)
        assert not running_fakes(host.bin)
        assert not kept.drafts()
        if kept.names():
            kept.verify(kept.load(name))
            kept.delete(name)


def test_a_qemu_that_dies_while_a_template_is_made_leaves_none_and_is_told(
    spec: MachineSpec, sshd_of: list[FakeSshd], host: Host
) -> None:
    for told in every_order(host, lambda: making.make(spec, on_stage=quiet), least=6):
        # The last of them had saved all, and was to end.
        assert bool(kept.names()) == (told is None)
        assert not kept.drafts()
        assert not list(runtime_dir().glob("template.*"))
        for name in kept.names():
            kept.verify(kept.load(name))
            kept.delete(name)


def test_a_qemu_that_dies_while_it_becomes_a_machine_leaves_one_that_boots(
    template: MachineTemplate, spec: MachineSpec, host: Host
) -> None:
    machine = warm.create(spec, template)

    def anew() -> None:
        nonlocal machine
        lifecycle.delete("two", force=True)
        machine = warm.create(spec, template)

    start = lambda: warm.start(machine, template, on_stage=quiet)  # noqa: E731 - it is anew each time
    for told in every_order(host, start, before=anew, least=6):
        assert status.of(machine).state == "stopped"
        assert not machine.restoring.exists()
        if told is not None:
            assert "to boot it instead: rave vm start two" in told.detail
        lifecycle.start(machine, on_stage=quiet)
        assert len(running_fakes(host.bin)) == 1
        kept.verify(template)


def test_a_draft_goes_though_what_keeps_its_logs_still_makes_files_in_it(
    spec: MachineSpec, host: Host
) -> None:
    name = key.key_of(spec, TCG).name
    draft = private_dir(private_dir(kept.folder()) / f".new-{name}.0000")
    loop = 'while :; do : >"$0/log$((n += 1))" || exit; done'
    keeper = subprocess.Popen(["/bin/sh", "-c", loop, draft], stderr=subprocess.DEVNULL)
    try:
        until(lambda: len(list(draft.iterdir())) > 100)
        (left,) = pruning.find(templates=False)
        assert pruning.remove(left)
        assert not kept.drafts()
    finally:
        keeper.kill()
        keeper.wait()
