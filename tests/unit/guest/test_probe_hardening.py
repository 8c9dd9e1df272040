"""The verdicts on boot, secrets, hardening and use of resources; see test_probe_verdicts.py."""

from __future__ import annotations

import base64
import subprocess
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from rave_guest import facts
from rave_guest.check import Subject, declared
from rave_guest.checks import boot, canary, performance, secrets, security
from rave_guest.services import fail2ban
from rave_guest.services import sshd as openssh

if TYPE_CHECKING:
    from pathlib import Path

# --- boot -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("taint", "status"), [(0, "pass"), (1 << 12, "pass"), (1 << 7, "fail")])
def test_taint(taint: int, status: str) -> None:
    assert boot.judge_taint(taint).status == status


PLAN = {
    "profile": "demo", "base": "debian", "services": {"sshd": {}}, "secrets": {"a/b": {}},
    "exposed": [{"port": 22}],
}  # fmt: skip
EXPECTED = {
    "profile": "demo", "base": "debian", "services": ["sshd"], "secrets": ["a/b"], "exposed": [22],
}  # fmt: skip


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({}, None),
        ({"services": {}}, "services differ"),
        ({"exposed": [{"port": 23}]}, "exposed differ"),
        ({"profile": "other"}, "profile differ"),
    ],
)
def test_the_guest_s_plan(more: dict[str, Any], problem: str | None) -> None:
    verdict = boot.judge_plan(PLAN | more, EXPECTED)
    assert verdict.status == ("fail" if problem else "pass")
    assert (problem or "demo on debian") in verdict.detail


@pytest.mark.parametrize(
    ("state", "status"), [("running", "pass"), ("degraded", "fail"), ("starting", "fail")]
)
def test_startup(state: str, status: str) -> None:
    manager = {"SystemState": state, "NJobs": "1", "UserspaceTimestampMonotonic": "2000000"}
    assert boot.judge_startup(manager).status == status


def test_errors_that_any_client_of_sshd_can_cause_do_not_count() -> None:
    noise = ["Nov 20 13:15:24 rave sshd[301]: error: kex_exchange_identification"] * 50
    assert boot.judge_errors(noise).status == "pass"
    assert boot.judge_errors(["Nov 20 13:15:24 rave kernel: oops"] * 11).status == "warn"


# --- secrets --------------------------------------------------------------------------------------


def entry(mode: int = 0o400, owner: str = "root", kind: str = "file", size: int = 9) -> Any:
    return secrets.FileStatus(kind, mode, owner, size)


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ({"a": entry(0o751, kind="dir"), "a/b": entry()}, None),
        ({}, "a/b is missing"),
        ({"a/b": entry(0o440)}, "a/b is 0440 root, not 0400 root"),
        ({"a/b": entry(owner="redis")}, "a/b is 0400 redis"),
        ({"a/b": entry(size=0)}, "no file with content"),
        ({"a/b": entry(kind="other")}, "no file with content"),
        ({"a/b": entry(), "a/c": entry()}, "a/c is not in the plan"),
        ({"a": entry(0o777, kind="dir"), "a/b": entry()}, "the directory a is 0777"),
    ],
)
def test_secret_files(found: dict[str, Any], problem: str | None) -> None:
    verdict = secrets.judge_files(found, {"a/b": ("root", 0o400)})
    assert verdict.status == ("fail" if problem else "pass")
    assert (problem or "1 secrets") in verdict.detail


def test_what_the_base_renders_beside_the_secrets_is_known() -> None:
    own = {"rendered": {"rendered/x.conf": {"owner": "nosuch-account", "mode": "0400"}}}
    assert secrets.rendered(own) == {"rendered/x.conf": ("root", 0o400)}
    assert secrets.rendered({}) == {}


SAFE = frozenset({"nosuid", "nodev", "noexec"})


@pytest.mark.parametrize(
    ("mount", "swaps", "problem"),
    [
        (facts.Mount("/run/secrets.d", "ramfs", SAFE), True, None),
        (facts.Mount("/run/secrets.d", "tmpfs", SAFE), False, None),
        (facts.Mount("/run/secrets.d", "tmpfs", SAFE | {"noswap"}), True, None),
        (facts.Mount("/run/secrets.d", "tmpfs", SAFE), True, "swapped out"),
        (facts.Mount("/", "ext4", SAFE), False, "is ext4"),
        (facts.Mount("/run", "ramfs", frozenset({"nosuid"})), False, "lacks nodev, noexec"),
        (None, False, "on no mount"),
    ],
)
def test_secrets_lie_in_memory(mount: facts.Mount | None, swaps: bool, problem: str | None) -> None:
    verdict = secrets.judge_mount(mount, swaps)
    assert verdict.status == ("fail" if problem else "pass")
    assert (problem or "on /run/secrets.d") in verdict.detail


SOPS = "redis:\n    password: ENC[AES256_GCM,data:x]\nsops:\n    lastmodified: now\n"


@pytest.mark.parametrize(
    ("directory", "mode", "document", "problem"),
    [
        (entry(0o700, kind="dir"), 0o400, SOPS, None),
        (entry(0o755, kind="dir"), 0o400, SOPS, "not 0700 root"),
        (None, 0o400, SOPS, "not 0700 root"),
        (entry(0o700, kind="dir"), 0o600, SOPS, "0600 root, not 0400 root"),
        (entry(0o700, kind="dir"), 0o400, SOPS.replace("ENC[", "plain"), "password is not enc"),
        (entry(0o700, kind="dir"), 0o400, "a:\n", "no SOPS file"),
    ],
)
def test_the_store_is_encrypted(
    directory: Any, mode: int, document: str, problem: str | None
) -> None:
    found = {"age.key": entry(mode), "secrets.sops.yaml": entry(mode)}
    verdict = secrets.judge_store(directory, found, document, handed=False)
    assert verdict.status == ("fail" if problem else "pass")
    assert (problem or "encrypted") in verdict.detail


@pytest.mark.parametrize(
    ("key", "handed", "problem"),
    [
        (None, True, None),
        (entry(0o400), True, "age.key lies beside what it opens"),
        (None, False, "age.key is missing"),
    ],
)
def test_what_opens_the_store_comes_from_the_host(
    key: Any, handed: bool, problem: str | None
) -> None:
    found = {"age.key": key, "secrets.sops.yaml": entry(0o400)}
    verdict = secrets.judge_store(entry(0o700, kind="dir"), found, SOPS, handed=handed)
    assert verdict.status == ("fail" if problem else "pass")
    assert (problem or "encrypted") in verdict.detail


# --- security -------------------------------------------------------------------------------------


def sshd(**more: str) -> dict[str, list[str]]:
    good = {name: sorted(values) for name, values in openssh.SSHD.items()}
    good |= {"maxauthtries": ["3"], "logingracetime": ["20"]}
    return good | {name: [value] for name, value in more.items()}


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({}, None),
        ({"passwordauthentication": "yes"}, "passwordauthentication is yes"),
        ({"permitrootlogin": "prohibit-password"}, "permitrootlogin is prohibit-password"),
        ({"maxauthtries": "20"}, "maxauthtries is 20"),
        ({"logingracetime": "0"}, "logingracetime is 0"),
    ],
)
def test_sshd(more: dict[str, str], problem: str | None) -> None:
    verdict = openssh.judge_sshd(sshd(**more))
    assert verdict.status == ("fail" if problem else "pass")
    assert (problem or "as they must be") in verdict.detail


def test_an_sshd_that_says_nothing_fails() -> None:
    assert "permitrootlogin is unset" in openssh.judge_sshd({}).detail


SUDOERS = "Defaults use_pty\nroot ALL=(ALL:ALL) ALL\nrave ALL=(ALL) NOPASSWD: ALL\n"


@pytest.mark.parametrize(
    ("text", "mode", "problem"),
    [
        (SUDOERS, 0o440, None),
        (SUDOERS + "# eve ALL=(ALL) NOPASSWD: ALL\n", 0o440, None),
        (SUDOERS + "eve ALL=(ALL) NOPASSWD: ALL\n", 0o440, "eve needs no password"),
        (SUDOERS + "eve ALL=(ALL) \\\n NOPASSWD: ALL\n", 0o440, "eve needs no password"),
        (SUDOERS + "Defaults !authenticate\n", 0o440, "!authenticate"),
        (SUDOERS, 0o666, "is 0666"),
        (SUDOERS.replace("Defaults use_pty\n", ""), 0o440, "use_pty is not set"),
    ],
)
def test_sudo(text: str, mode: int, problem: str | None) -> None:
    verdict = security.judge_sudo({"/etc/sudoers": (0, mode, text)}, "rave")
    assert verdict.status == ("fail" if problem else "pass")
    assert (problem or "rave alone") in verdict.detail


def test_sysctl_ignores_what_this_kernel_lacks() -> None:
    wanted = {"net.ipv4.ip_forward": 0, "kernel.unprivileged_bpf_disabled": 1}
    good = {name: str(value) for name, value in wanted.items()}
    assert security.judge_sysctl(wanted, good).status == "pass"
    lacking = good | {"kernel.unprivileged_bpf_disabled": ""}
    assert security.judge_sysctl(wanted, lacking).status == "pass"
    verdict = security.judge_sysctl(wanted, good | {"net.ipv4.ip_forward": "1"})
    assert verdict.detail == "net.ipv4.ip_forward is 1 instead of 0"


def test_every_kernel_setting_of_the_catalog_is_looked_at() -> None:
    (found,) = (check for check in declared(security) if check.id == "security.sysctl")
    plan = {"facts": {"sysctl": {"fs.protected_fifos": 2}}}
    asked = found.arguments(Subject(plan, "safe", "", "isolated", 0, ()))
    assert asked["settings"]["fs.protected_fifos"] == 2


def test_accounts() -> None:
    passwd = "root:x:0:0::/root:/bin/sh\n"
    assert security.judge_accounts("root:*:1::::::\n", passwd).status == "pass"
    assert "root can log in" in security.judge_accounts("root:$y$x:1::::::\n", passwd).detail
    assert "cannot be read" in security.judge_accounts("", "").detail
    second = passwd + "eve:x:0:0::/:/bin/sh\n"
    assert "eve has user id 0" in security.judge_accounts("root:*:1::::::\n", second).detail


def test_file_modes() -> None:
    assert security.judge_modes([], []).status == "pass"
    assert "everybody may write /etc/x" in security.judge_modes(["/etc/x"], []).detail
    assert "everybody may read /etc/shadow" in security.judge_modes([], ["/etc/shadow"]).detail


@pytest.mark.parametrize(
    ("retries", "seconds", "actions", "status"),
    [
        (3, 60, ["rave"], "pass"),
        (3, -1, ["rave"], "pass"),
        (5, 600, ["rave"], "fail"),
        (3, 10, ["rave"], "fail"),
        (3, 600, [], "fail"),
    ],
)
def test_jail(retries: int, seconds: int, actions: list[str], status: str) -> None:
    assert fail2ban.judge_jail(retries, seconds, actions, 3).status == status


def test_a_ban_must_reach_the_firewall() -> None:
    assert fail2ban.judge_ban(banned=True, enforced=True).status == "pass"
    assert fail2ban.judge_ban(banned=True, enforced=False).status == "fail"
    assert fail2ban.judge_ban(banned=False, enforced=True).status == "fail"


def test_a_ban_is_held_once_the_firewall_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """fail2ban says that it has banned before it has told nftables."""
    said: list[list[str]] = []
    rulesets = iter(["", "", "set banned { 10.0.2.2 }"])

    def say(words: list[str], _arguments: object) -> str:
        said.append(words)
        return "['10.0.2.2']"

    monkeypatch.setattr(fail2ban, "_say", say)
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    system: Any = SimpleNamespace(run=lambda *_: SimpleNamespace(stdout=next(rulesets)))
    arguments = {"address": "10.0.2.2", "hold": 1.8, "timeout": 25}
    assert fail2ban.release(arguments, system).status == "pass"
    assert slept == [0.1, 0.1, 1.8]
    assert said[-1] == ["set", "sshd", "unbanip", "10.0.2.2"]


# --- canaries -------------------------------------------------------------------------------------

VALUE = "s3cret/value+with=signs"


def test_a_secret_is_found_in_every_form() -> None:
    sought = canary.patterns({"a/b": VALUE})
    for text in (VALUE, "s3cret%2Fvalue%2Bwith%3Dsigns", base64.b64encode(VALUE.encode()).decode()):
        assert canary.find({"here": f"x{text}y".encode()}, sought) == [("a/b", "here")]
    assert canary.find({"here": b"s3cret/value"}, sought) == []


def test_of_a_key_every_line_counts_but_its_frame() -> None:
    pem = f"-----BEGIN PRIVATE KEY-----\n{'A' * 64}\n{'B' * 64}\nshort\n-----END PRIVATE KEY-----"
    sought = canary.patterns({"tls/key": pem})
    assert canary.find({"x": b"B" * 64}, sought)
    assert not canary.find({"x": b"-----BEGIN PRIVATE KEY-----short"}, sought)


def test_what_is_found_never_says_the_value() -> None:
    sought = canary.patterns({"a/b": VALUE})
    verdict = canary.judge_hits(canary.find({"x": VALUE.encode()}, sought), [], "")
    assert (verdict.status, verdict.detail) == ("fail", "a/b is in x")
    assert VALUE not in str(verdict)


EXCEPTION = {"check": "security.canary-processes", "secrets": ["a/b"], "place": "/x.service"}
ENVIRONMENT = "environ of process 7 in /system.slice/x.service"


@pytest.mark.parametrize(
    ("hit", "status"),
    [
        (("a/b", ENVIRONMENT), "pass"),
        (("a/c", ENVIRONMENT), "fail"),
        (("a/b", "environ of process 7 in /system.slice/y.service"), "fail"),
        (("a/b", "cmdline of process 7 in /system.slice/max.service"), "fail"),
    ],
)
def test_an_exception_is_for_its_secrets_at_its_place_alone(
    hit: tuple[str, str], status: str
) -> None:
    verdict = canary.judge_hits([canary.Hit(*hit)], [EXCEPTION], "searched")
    assert verdict.status == status
    assert verdict.data["excepted"] == ([f"a/b in {ENVIRONMENT}"] if status == "pass" else [])


def test_an_exception_of_the_plan_counts_for_its_own_check() -> None:
    plan = {"secrets": {"a/b": {"path": "/p", "generate": {"kind": "hex"}}}}
    about = Subject(plan | {"exceptions": [EXCEPTION]}, "safe", "", "isolated", 0, ())
    asked = {
        found.id: found.arguments(about)
        for found in declared(canary)
        if found.id.startswith("security.canary-")
    }
    assert asked["security.canary-processes"]["exceptions"] == [EXCEPTION]
    assert canary._exceptions(asked["security.canary-files"], "security.canary-files") == []
    # A plan of before there were exceptions has none.
    older = Subject(plan, "safe", "", "isolated", 0, ())
    assert all(found.arguments(older)["exceptions"] == [] for found in declared(canary))


def test_a_file_of_an_exception_is_looked_into(tmp_path: Path) -> None:
    sought = canary.patterns({"a/b": VALUE, "a/c": "another secret value"})
    config = tmp_path / "config"
    config.write_text(f"{VALUE} and another secret value")
    exception = EXCEPTION | {"check": "security.canary-files", "place": "/config"}
    hits = canary._in_file(str(config), sought, [exception])
    assert canary.judge_hits(hits, [exception], "").detail == f"a/c is in {config}"
    assert canary._in_file(str(config), sought, []) == [("a secret", str(config))]


@pytest.mark.parametrize(
    ("status", "words", "verdict"),
    [
        (2, "grep: /run/fail2ban/banned: No such file or directory\n", "pass"),
        (2, "grep: /etc/x: Input/output error\n", "error"),
        (-9, "", "error"),
    ],
)
def test_a_file_that_goes_while_it_is_searched_holds_nothing(
    status: int, words: str, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(argv: list[str], _timeout: float, **_more: Any) -> subprocess.CompletedProcess[str]:
        done = (0, "/run/fail2ban/banned\0", "") if argv[0] == "find" else (status, "", words)
        return subprocess.CompletedProcess(argv, *done)

    monkeypatch.setattr(canary, "run", run)
    arguments = {"secrets": {"a/b": "/p"}, "timeout": 5}
    found = canary.files(arguments, SimpleNamespace(secret=lambda _path: VALUE))  # type: ignore[arg-type]
    assert found.status == verdict


# --- performance ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "free", "problem"),
    [(1979, 1600, None), (2100, 1600, "more than the cap"), (1979, 100, "only 100 of 1979")],
)
def test_memory(total: int, free: int, problem: str | None) -> None:
    verdict = performance.judge_memory({"MemTotal": total, "MemAvailable": free}, 2048)
    assert verdict.status == ("fail" if problem else "pass")
    assert (problem or "MiB used") in verdict.detail


@pytest.mark.parametrize(
    ("current", "cap", "status"),
    [(50, str(64 << 20), "pass"), (70, str(64 << 20), "fail"), (50, "infinity", "warn")],
)
def test_shares(current: int, cap: str, status: str) -> None:
    found = {"a.service": {"MemoryCurrent": str(current << 20), "MemoryMax": cap}}
    services: list[Any] = [{"id": "a", "units": ["a.service"], "share_mib": 64}]
    assert performance.judge_shares(found, services).status == status


def test_a_target_needs_no_cap() -> None:
    services: list[Any] = [{"id": "a", "units": ["a.target"], "share_mib": 64}]
    found = {"a.target": {"MemoryMax": ""}}
    assert performance.judge_shares(found, services).status == "pass"


def test_disk_and_pressure() -> None:
    assert performance.judge_disk(100, 50).status == "pass"
    assert performance.judge_disk(100, 5).status == "fail"
    assert performance.judge_pressure("some avg10=0.00 avg60=0.20 avg300=0").status == "pass"
    assert performance.judge_pressure("some avg10=0.00 avg60=25.00 avg300=0").status == "warn"
