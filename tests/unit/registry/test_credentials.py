"""Credentials come from a file that is the operator's alone, and are shown to nobody else."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import registries
from rave_cli.flows.registries import RegistryAccess
from rave_cli.registry.credentials import Credentials, default_file, of_file, of_pair
from rave_cli.registry.reference import parse

if TYPE_CHECKING:
    from pathlib import Path

REFERENCE = parse("oci://registry.example.org:5000/team/app")


def packed(pair: str) -> dict[str, str]:
    return {"auth": base64.b64encode(pair.encode()).decode()}


def kept(place: Path, document: Any, mode: int = 0o600) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(document))
    place.chmod(mode)
    return place


@pytest.mark.parametrize(
    ("auths", "found"),
    [
        ({"registry.example.org:5000": packed("me:pa:ss")}, Credentials("me", "pa:ss")),
        ({"https://registry.example.org:5000": packed("me:pw")}, Credentials("me", "pw")),
        (
            {
                "registry.example.org:5000": packed("a:1"),
                "registry.example.org:5000/team": packed("b:2"),
            },
            Credentials("b", "2"),
        ),
        ({"registry.example.org:5000": {"identitytoken": "t"}}, Credentials(identity_token="t")),
        (
            {"registry.example.org:5000": {"username": "me", "password": "pw"}},
            Credentials("me", "pw"),
        ),
        ({"registry.example.org": packed("me:pw")}, None),
        ({"registry.example.org:5000": {}}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_those_of_the_registry_are_found(
    tmp_path: Path, auths: dict[str, Any], found: Credentials | None
) -> None:
    assert of_file(kept(tmp_path / "c.json", {"auths": auths}), REFERENCE) == found


@pytest.mark.parametrize(
    "document",
    [
        {"credsStore": "desktop"},
        {"credHelpers": {"registry.example.org:5000": "desktop"}},
        {"auths": {"registry.example.org:5000": {}}, "credsStore": "desktop"},
    ],
)
def test_a_program_that_has_them_is_named_and_not_run(tmp_path: Path, document: Any) -> None:
    with pytest.raises(RaveError) as caught:
        of_file(kept(tmp_path / "c.json", document), REFERENCE)
    assert caught.value.exit_code is ExitCode.SECRETS
    assert "docker-credential-desktop get" in str(caught.value.hint)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(RaveError, match="can be read by others") as caught:
        of_file(kept(tmp_path / "c.json", {}, mode), REFERENCE)
    assert caught.value.exit_code is ExitCode.SECRETS


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "[" * 100_000, '{"auths": {"registry.example.org:5000": {"auth": "%"}}}',
     '{"auths": {"registry.example.org:5000": {"auth": "bm9jb2xvbg=="}}}'],
    ids=range(6),
)  # fmt: skip
def test_a_file_that_is_not_understood_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    place = tmp_path / "c.json"
    place.write_text(text)
    place.chmod(0o600)
    with pytest.raises(RaveError) as caught:
        of_file(place, REFERENCE)
    assert caught.value.exit_code is ExitCode.SECRETS
    assert "nocolon" not in caught.value.message


@pytest.mark.parametrize("data", [b"", b"me", b"me:", b":pw", b"\xff:pw", b"me:" + b"x" * 70_000])
def test_what_is_no_pair_is_refused_and_not_shown(data: bytes) -> None:
    with pytest.raises(RaveError, match="standard input is not USER:PASSWORD"):
        of_pair(data, "standard input")


def test_a_pair_ends_before_its_newline() -> None:
    assert of_pair(b"me:pw\n", "x") == of_pair(b"me:pw\r\n", "x") == Credentials("me", "pw")


def test_no_credentials_show_in_a_trace() -> None:
    assert "hunter2" not in repr(Credentials("me", "hunter2", "hunter2"))


def test_the_file_is_where_docker_and_podman_have_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    assert default_file() is None
    podman = kept(tmp_path / "run/containers/auth.json", {})
    assert default_file() == podman
    docker = kept(home / ".docker/config.json", {})
    assert default_file() == docker
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "elsewhere"))
    assert default_file() == podman
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "named"))
    assert default_file() == tmp_path / "named"


def test_they_are_taken_from_standard_input_unless_that_is_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    access = RegistryAccess(auth_stdin=True)
    piped = io.TextIOWrapper(io.BytesIO(b"me:pw\n"))
    monkeypatch.setattr("sys.stdin", piped)
    with registries.reach(REFERENCE, access, writes=True) as repository:
        assert repository.session.credentials() == Credentials("me", "pw")
    piped.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", piped)
    with (
        pytest.raises(RaveError, match="a terminal") as caught,
        registries.reach(REFERENCE, access, writes=True),
    ):
        pass
    assert caught.value.exit_code is ExitCode.USAGE
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(RaveError), registries.reach(REFERENCE, access, writes=True):
        pass


def test_no_file_is_read_before_the_registry_wants_to_see_something(tmp_path: Path) -> None:
    others = kept(tmp_path / "c.json", {}, 0o644)
    access = RegistryAccess(auth_file=others)
    with (
        registries.reach(REFERENCE, access, writes=True) as repository,
        pytest.raises(RaveError, match="can be read by others"),
    ):
        repository.session.credentials()
