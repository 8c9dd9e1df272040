"""What Nix's and apt's words mean: the right exit code, and a hint that helps."""

from __future__ import annotations

import pytest

from rave_cli.errors import ExitCode
from rave_cli.images import apt
from rave_cli.images.nixfaults import explain

NIX = {
    "full disk": (
        "error: writing to file: No space left on device", "debian", ExitCode.HOST, "df -h"
    ),
    "a tool is missing": ("rave: this host lacks unshare", "debian", ExitCode.HOST, "util-linux"),
    "foreign checkout": (
        "error: repository path '/src' is not owned by current user",
        "debian", ExitCode.HOST, "git config --global --add safe.directory /src",
    ),
    "unknown attribute": (
        "error: flake 'git+file:///src' does not provide attribute 'demo'",
        "nixos", ExitCode.USAGE, "rave vm list-profiles",
    ),
    "no builder with KVM": (
        "error: a 'x86_64-linux' with features {big, kvm} is required to build '/nix/store/x.drv'",
        "nixos", ExitCode.HOST, "--profile demo --base debian",
    ),
    "no network": (
        "error: unable to download 'https://api.github.com': Couldn't resolve host name (6)",
        "nixos", ExitCode.BUILD, "--profile demo --base debian",
    ),
    "no store": (
        "error: creating directory '/nix': Permission denied",
        "nixos", ExitCode.HOST, "--base debian",
    ),
}  # fmt: skip

APT = {
    "offline": (
        "E: Failed to fetch http://m/InRelease  Could not resolve 'm'", "could not be fetched",
        "RAVE_DEBIAN_MIRROR",
    ),
    "full disk": ("E: You don't have enough free space in /var/cache/", "no space", "df -h"),
    "another key": (
        "W: GPG error: http://m: NO_PUBKEY 0E98404D386FA1D9", "not signed by the keys",
        "RAVE_DEBIAN_KEYRING",
    ),
    "no signature": (
        "E: The repository 'http://m bookworm InRelease' is not signed.", "not signed by the keys",
        "RAVE_DEBIAN_KEYRING",
    ),
    "another key, as sqv says it": (
        "Err: http://m sqv returned an error code (1): Missing key B8B80B5B623EAB6AD8775C45B7C5",
        "not signed by the keys", "RAVE_DEBIAN_KEYRING",
    ),
    "stale mirror": (
        "E: Release file for http://m/InRelease is expired (invalid since 3d)", "have expired",
        "date",
    ),
    "part of a mirror": (
        "E: Unable to locate package postgresql-15", "does not offer postgresql-15",
        "RAVE_DEBIAN_MIRROR",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NIX)
def test_a_fault_of_nix_is_named(case: str) -> None:
    words, base, code, hint = NIX[case]
    error = explain([words], [], base, "/src#demo")
    assert error.exit_code == code
    assert hint in (error.hint or "")


def test_the_unknown_fault_shows_the_end_of_the_log_and_where_the_rest_is() -> None:
    drv = "/nix/store/iqvw2lzf6mnmk3c1rfr0npfcysc7csvr-rave-debian-base.drv"
    error = explain(
        [f"error: builder for '{drv}' failed with exit code 1"], ["dpkg: error"], "debian", "/s#d"
    )
    assert error.exit_code == ExitCode.BUILD
    assert error.detail == ("dpkg: error",)
    assert error.hint == f"nix log {drv}"


def test_a_cause_above_a_long_traceback_is_found() -> None:
    """Python 3.13 takes more lines for the same words."""
    log = ["tar: root.tar: Cannot write: No space left on device", *["    ~~~~^^^"] * 30]
    assert "no space left" in explain([], log, "debian", "/s#d").message
    assert len(explain([], log[1:], "debian", "/s#d").detail) == 20


def test_what_nix_says_of_the_flakes_own_settings_explains_nothing() -> None:
    noise = "warning: ignoring untrusted flake configuration setting 'cores'"
    assert explain([noise, "error: no"], [], "debian", "/s#d").detail == ("error: no",)


@pytest.mark.parametrize("case", APT)
def test_a_fault_of_apt_is_the_hosts(case: str) -> None:
    words, message, hint = APT[case]
    error = apt.fault(words, "http://m (this host's apt sources)")
    assert error.exit_code == ExitCode.HOST
    assert message in error.message
    assert hint in (error.hint or "")
    assert error.detail[0] == "asked: http://m (this host's apt sources)"
