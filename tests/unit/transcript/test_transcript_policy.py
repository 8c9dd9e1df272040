"""Policies: what they may say, and that what they do not understand is refused."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.transcript import VerificationPolicy, load_policy, parse_age

if TYPE_CHECKING:
    from pathlib import Path

FULL = """\
version: 1
required:
  - image.digest
  - redis.ping
allow_warn: true
profile: demo
base: debian
max_age: 7d
configuration:
  flake.lock: abababababababababababababababababababababababababababababababab
lock: cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd
archive_keys: [0F0F0F0F0F0F0F0F0F0F0F0F0F0F0F0F0F0F0F0F]
cold: true
"""


def written(directory: Path, text: str, name: str = "policy.yaml") -> Path:
    path = directory / name
    path.write_text(text)
    return path


def test_a_full_policy(tmp_path: Path) -> None:
    assert load_policy(written(tmp_path, FULL)) == VerificationPolicy(
        required=("image.digest", "redis.ping"),
        allow_warn=True,
        profile="demo",
        base="debian",
        max_age=timedelta(days=7),
        configuration={"flake.lock": "ab" * 32},
        lock="cd" * 32,
        archive_keys=frozenset({"0F" * 20}),
        cold=True,
    )


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    members = {"version": 1, "required": ["a"], "configuration": {"suite": "ab" * 32}}
    as_json = load_policy(written(tmp_path, json.dumps(members), "policy.json"))
    as_yaml = load_policy(written(tmp_path, json.dumps(members), "policy.yml"))
    assert as_json == as_yaml == VerificationPolicy(("a",), configuration={"suite": "ab" * 32})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a table"),
        ("- a", "not a table"),
        ("version: 1", "required must list"),
        ("version: 1\nrequired: []", "required must list"),
        ("version: 1\nrequired: image.digest", "required must list"),
        ("version: 1\nrequired: [7]", "not a check id"),
        ("version: 1\nrequired: ['a b']", "not a check id"),
        ("version: 2\nrequired: [a]", "version is not 1"),
        ("version: true\nrequired: [a]", "version is not 1"),
        ("required: [a]", "version is not 1"),
        ("version: 1\nrequired: [a]\nrequire: [b]", "unknown member 'require'"),
        ("version: 1\nrequired: [a]\nallow_warn: 'no'", "allow_warn"),
        ("version: 1\nrequired: [a]\ncold: 'no'", "cold is neither"),
        ("version: 1\nrequired: [a]\nprofile: 7", "profile is not a text"),
        ("version: 1\nrequired: [a]\nmax_age: 7", "max_age is not a text"),
        ("version: 1\nrequired: [a]\nmax_age: soon", "not an age"),
        ("version: 1\nrequired: [a]\nconfiguration: [b]", "sha256 for each name"),
        ("version: 1\nrequired: [a]\nconfiguration: {x: y}", "digest of 'x'"),
        ("version: 1\nrequired: [a]\nlock: ab", "lock is not a sha256"),
        ("version: 1\nrequired: [a]\nlock: [ab]", "lock is not a sha256"),
        ("version: 1\nrequired: [a]\narchive_keys: 0F", "archive_keys must list"),
        ("version: 1\nrequired: [a]\narchive_keys: [0F]", "not 40 digits"),
        ("version: 1\nrequired: [a]\narchive_keys: [7]", "not 40 digits"),
        ("version: 1\nrequired: [a]\nrequired: [b]", "appears twice"),
        ("version: 1\nrequired: [a]\nconfiguration: {x: y, x: z}", "appears twice"),
        ("version: 1\nrequired: !!python/name:os.system []", "not YAML"),
        ("version: 2026-13-45\nrequired: [a]", "not YAML"),
        ("{[}: 1", "not YAML"),
        ("[" * 3000, "not YAML"),
        ("1: 2", "unknown member"),
        ("#" * (1 << 20) + "#", "too large"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(RaveError, match=why) as caught:
        load_policy(written(tmp_path, text))
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"version":1,"required":["a"],"required":["b"]}', "appears twice"),
        ('{"version":1,"required":["a"]} x', "not JSON"),
        ('{"version":NaN,"required":["a"]}', "NaN"),
    ],
)
def test_json_is_read_strictly(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(RaveError, match=why):
        load_policy(written(tmp_path, text, "policy.json"))


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode("utf-8", "ignore"))
    with pytest.raises(RaveError):
        load_policy(path)


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("90s", timedelta(seconds=90)),
        ("90m", timedelta(minutes=90)),
        ("24h", timedelta(days=1)),
        ("7d", timedelta(weeks=1)),
    ],
)
def test_ages(text: str, age: timedelta) -> None:
    assert parse_age(text) == age


@pytest.mark.parametrize("text", ["", "0h", "-1h", "1", "1 h", "1w", "1.5h", "9999999999d", "٣h"])
def test_what_is_no_age(text: str) -> None:
    with pytest.raises(RaveError, match="not an age") as caught:
        parse_age(text)
    assert caught.value.exit_code is ExitCode.USAGE
