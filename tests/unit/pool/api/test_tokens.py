"""Tokens: what the pool made is good until it ends or is revoked, and nothing else ever is."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, get_args

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rave_cli import options
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.api.tokens import ISSUER, MOST_HOURS, ROLES, Role, Tokens, may
from rave_cli.pool.jobs.database import folder

if TYPE_CHECKING:
    from pathlib import Path

# The home of a test is one for all examples: nothing in them depends on those before.
HOMELY = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])

roles = st.sampled_from(ROLES)


def test_the_roles_of_the_options_are_those_there_are() -> None:
    assert options.POOL_ROLES == ROLES == get_args(Role)


@given(roles, roles, roles)
def test_a_role_may_what_each_below_it_may(one: Role, two: Role, three: Role) -> None:
    assert may(one, one)
    assert may(one, two) or may(two, one)
    assert not (may(one, two) and may(two, three)) or may(one, three)


@HOMELY
@given(role=roles, hours=st.floats(0.01, MOST_HOURS), after=st.floats(-1, MOST_HOURS + 1))
def test_a_token_is_good_until_it_ends(home: Path, role: Role, hours: float, after: float) -> None:
    tokens, now = Tokens(), time.time()
    record, token = tokens.create("ci", role, hours, now)
    later = now + after * 3600
    held = tokens.holder(token, later)
    assert (held == record) == (later < record.expires)
    assert held is None or held.role == role


def test_one_that_is_revoked_is_good_no_more_for_whoever_had_read_it_before(home: Path) -> None:
    maker, server, now = Tokens(), Tokens(), time.time()
    _, token = maker.create("ci", "viewer", 1, now)
    _, other = maker.create("other", "admin", 1, now)
    assert server.holder(token, now) is not None
    assert [one.name for one in maker.revoke("ci", now)] == ["ci"]
    assert server.holder(token, now) is None
    assert server.holder(other, now) is not None
    with pytest.raises(RaveError) as caught:
        maker.revoke("ci", now)
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_number_revokes_one_and_a_name_all_of_it(home: Path) -> None:
    tokens, now = Tokens(), time.time()
    first, _ = tokens.create("ci", "viewer", 1, now)
    second, _ = tokens.create("ci", "viewer", 1, now)
    third, _ = tokens.create("ci", "viewer", 1, now)
    assert [one.number for one in tokens.revoke(second.number, now)] == [second.number]
    assert [one.number for one in tokens.revoke("ci", now)] == [first.number, third.number]


@HOMELY
@given(st.data())
def test_a_token_that_was_changed_anywhere_is_none(home: Path, data: st.DataObject) -> None:
    tokens, now = Tokens(), time.time()
    _, token = tokens.create("ci", "viewer", 1, now)
    # The last character of a part in base64 has bits that stand for nothing.
    ends = {at - 1 for at, letter in enumerate(token) if letter == "."} | {len(token) - 1}
    at = data.draw(st.sampled_from([at for at in range(len(token)) if at not in ends]))
    letter = data.draw(st.sampled_from("abcXYZ019-_.").filter(lambda one: one != token[at]))
    assert tokens.holder(token[:at] + letter + token[at + 1 :], now) is None


@HOMELY
@given(st.text(max_size=300) | st.binary(max_size=200).map(lambda b: b.decode("latin-1")))
def test_what_is_no_token_is_none_and_no_fault(home: Path, text: str) -> None:
    tokens, now = Tokens(), time.time()
    tokens.create("ci", "admin", 1, now)
    assert tokens.holder(text, now) is None


def test_one_that_others_signed_or_nobody_is_none(home: Path) -> None:
    tokens, now = Tokens(), time.time()
    record, _ = tokens.create("ci", "admin", 1, now)
    words = {"iss": ISSUER, "jti": record.number, "exp": now + 60}
    key = (folder() / "tokens.key").read_bytes()
    assert tokens.holder(jwt.encode(words, key, "HS256"), now) == record
    plain = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "none", "typ": "JWT"}, words)
    ]
    with pytest.warns(jwt.warnings.InsecureKeyLengthWarning):
        longer = jwt.encode(words, key, "HS384")
    for forged in (
        longer,
        jwt.encode(words, b"x" * 32, "HS256"),
        jwt.encode(words | {"iss": "another"}, key, "HS256"),
        jwt.encode(words | {"jti": "0" * 12}, key, "HS256"),
        jwt.encode({"iss": ISSUER, "jti": record.number}, key, "HS256"),
        f"{plain[0]}.{plain[1]}.",
        "x" * 5000,
    ):
        assert tokens.holder(forged, now) is None


@pytest.mark.parametrize(
    ("name", "hours"), [("", 1), ("A b", 1), ("x" * 65, 1), ("ci", 0), ("ci", 169), ("-x", 1)]
)
def test_a_token_has_a_name_and_ends_soon(home: Path, name: str, hours: float) -> None:
    with pytest.raises(RaveError) as caught:
        Tokens().create(name, "viewer", hours, time.time())
    assert caught.value.exit_code is ExitCode.USAGE


def test_only_its_owner_reads_what_signs_them_and_no_token_is_kept(home: Path) -> None:
    tokens = Tokens()
    _, token = tokens.create("ci", "viewer", 1, time.time())
    key, record = folder() / "tokens.key", folder() / "tokens.json"
    assert [place.stat().st_mode & 0o777 for place in (key, record)] == [0o600, 0o600]
    assert token.rpartition(".")[2] not in record.read_text()
    key.chmod(0o644)
    with pytest.raises(RaveError) as caught:
        Tokens().holder(token, time.time())
    assert caught.value.exit_code is ExitCode.SECRETS


def test_those_that_ended_long_ago_are_forgotten(home: Path) -> None:
    tokens = Tokens()
    tokens.create("old", "viewer", 1, time.time() - 40 * 86400)
    tokens.create("new", "viewer", 1, time.time())
    assert [one.name for one in tokens.all()] == ["new"]
