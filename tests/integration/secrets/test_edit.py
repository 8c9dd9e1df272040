"""Editing the secrets file with the real sops: what is refused, what is kept."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import draft, sops, store, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.secrets.conftest import Operator

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def no_leftovers(home: Path) -> Iterator[None]:
    """Drafts lie outside the test's directory, where memory is."""
    yield
    draft.discard(home / "place/secrets.sops.yaml")
    draft.discard(home / ".config/rave/secrets.sops.yaml")


def editor(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        assert path.stat().st_mode & 0o777 == 0o600
        assert draft._type(path) in {"tmpfs", "ramfs"}
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def one_after_another(steps: Iterator[Callable[[Path], None]]) -> Callable[[Path], None]:
    """Return an editor that does another thing each time it is opened."""

    def change(path: Path) -> None:
        next(steps)(path)

    return change


def test_an_edit(operator: Operator) -> None:
    old = operator.values()["redis/password"]
    new = "a-new-password-of-good-length"
    changed = operator.edit(editor(old, new))
    assert changed
    assert operator.values()["redis/password"] == new
    assert operator.codes() == set()


def test_an_edit_keeps_comments(operator: Operator) -> None:
    operator.edit(editor("redis:", "# for the queue\nredis:"))
    text = sops.decrypt(operator.file.read_bytes(), operator.keys.text, output="yaml")
    assert b"# for the queue" in text
    assert operator.codes() == set()


def test_an_edit_without_change_leaves_the_file_alone(operator: Operator) -> None:
    before = operator.file.read_bytes()
    assert not operator.edit(lambda path: None)
    assert operator.file.read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("redis:", "redis: [", "line"),
        ("redis:", "tls:", "there twice"),
        ("redis:", "empty: ''\nredis:", "empty has no text"),
        ("redis:", "sops: x\nredis:", "reserved"),
    ],
)
def test_a_wrong_edit_changes_nothing(operator: Operator, old: str, new: str, why: str) -> None:
    before, told = operator.file.read_bytes(), []

    def again(reason: str) -> bool:
        told.append(reason)
        return False

    with pytest.raises(RaveError, match="nothing was changed") as caught:
        operator.edit(editor(old, new), again=again)
    assert caught.value.exit_code is ExitCode.SECRETS
    assert why in told[0]
    assert operator.file.read_bytes() == before


def test_a_wrong_edit_can_be_mended(operator: Operator) -> None:
    steps = iter([editor("redis:", "redis: ["), editor("redis: [", "redis:")])
    assert not operator.edit(one_after_another(steps), again=lambda why: True)


# Text that sops takes for something else, unless it is quoted.
NO_TEXT = (
    "1234567890123456", "12345678901234567890", "123456789012345678901234567890", "-1", "+1",
    "0x1F", "0o17", "017", "0b101", "1_000", "1.5", "1e10", ".5", "-.5e-3", ".inf", "-.Inf", ".nan",
    "true", "False", "TRUE", "null", "~", "2026-11-20", "2026-1-2", "2026-11-20T12:00:00Z",
    "2026-11-20 12:00:00",
)  # fmt: skip
# Text that only looks like it.
TEXT = (
    "1.2.3", "0xZZ", "1e", "yes", "on", "off", "n", "12:30", "2026-11-20x", "+", "1-2", "..5",
    "true-ish", "0b102", "127.0.0.1", "e5", "_1a", "1_000a", "nan", "inf", "tRue",
)  # fmt: skip


@pytest.mark.parametrize("value", NO_TEXT)
def test_a_value_that_is_no_text_to_sops_is_said_before_and_nothing_is_lost(
    operator: Operator, value: str
) -> None:
    before, old = operator.file.read_bytes(), operator.values()["redis/password"]
    told: list[str] = []

    def again(why: str) -> bool:
        told.append(why)
        return len(told) < 3

    steps = iter([editor(old, value), lambda path: None, editor("redis:", "# more\nredis:")])
    with pytest.raises(RaveError) as caught:
        operator.edit(one_after_another(steps), again=again)
    assert caught.value.exit_code is ExitCode.SECRETS
    assert all("redis/password" in why and "line" in why for why in told)
    assert operator.file.read_bytes() == before
    assert "sops wrote" not in caught.value.message
    seen: list[str] = []

    def mend(path: Path) -> None:
        seen.append(path.read_text())
        path.write_text(path.read_text().replace(f": {value}\n", f": '{old}x'\n"))

    assert operator.edit(mend, resume=lambda kept: True)
    assert f": {value}\n" in seen[0]
    assert "# more\nredis:" in seen[0]
    assert operator.values()["redis/password"] == f"{old}x"


@pytest.mark.parametrize("value", NO_TEXT)
def test_sops_does_not_take_it_for_text(operator: Operator, value: str) -> None:
    """The test above would forbid too much if it did."""
    try:
        sealed = sops.encrypt(document([value]), operator.keys.recipients, source="yaml")
    except RaveError:
        return
    assert b"type:str" not in sealed[: sealed.index(b"sops:")]


def test_what_only_looks_like_it_is_text_to_both(operator: Operator) -> None:
    assert as_sops_sees_it(list(TEXT), operator) == list(TEXT)
    assert as_we_see_it(list(TEXT)) == list(TEXT)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.text("0123456789._-+eExXoObB:TtZz naftrulsNAFTRULS~", min_size=1, max_size=12),
            st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=12),
        ),
        min_size=1, max_size=40,
    )
)  # fmt: skip
def test_whatever_we_take_for_text_is_the_same_text_to_sops(
    operator: Operator, texts: list[str]
) -> None:
    accepted = [(text, seen) for text in texts if (seen := as_we_see_it([text])) is not None]
    if accepted:
        found = as_sops_sees_it([text for text, _ in accepted], operator)
        assert found == [one for _, seen in accepted for one in seen]


def document(values: list[str]) -> bytes:
    return "".join(f"k{number}: {value}\n" for number, value in enumerate(values)).encode()


def as_we_see_it(values: list[str]) -> list[str] | None:
    try:
        found = store.document_names(document(values))
    except tree.TreeError:
        return None
    return list(found.values()) if list(found) == [f"k{n}" for n in range(len(values))] else None


def as_sops_sees_it(values: list[str], operator: Operator) -> list[object]:
    try:
        sealed = sops.encrypt(document(values), operator.keys.recipients, source="yaml")
    except RaveError:
        return []
    found = json.loads(sops.decrypt(sealed, operator.keys.text, output="json"))
    return [found[f"k{number}"] for number in range(len(values))]


@pytest.mark.parametrize("key", ["123", "true", "2026-11-20", "~", "'a:b'", "'a/b'", "<<", "'<<'"])
def test_a_key_that_cannot_be_one_is_said_and_nothing_is_lost(operator: Operator, key: str) -> None:
    told: list[str] = []

    def again(why: str) -> bool:
        told.append(why)
        return False

    with pytest.raises(RaveError):
        operator.edit(editor("redis:", f"{key}: {{x: a-text}}\nredis:"), again=again)
    assert "line" in told[0]
    assert len(draft.find(operator.file)) == 1


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("redis/password", "tooshort", "shorter than 16"),
        ("redis/password", "x" * 73, "longer than 72"),
        ("redis/password", "md5" + "0123456789abcdef" * 2, "hash of a password"),
        ("redis/password", "SCRAM-SHA-256$4096:salt$stored:server", "hash of a password"),
        ("redis/password", "$2a$04$abcdefghijklmnopqrstuv", "hash of a password"),
        ("redis/password", "with@in-an-address", "characters other than"),
        ("redis/password", "'with''a-quote-in-it'", "characters other than"),
        ("grafana/secret-key", "'0123'", "32 bytes in lower-case hex"),
        ("note_unencrypted", "'some text of a good length'", "not encrypted"),
    ],
)
def test_a_value_that_no_service_can_take_is_said_and_nothing_is_lost(
    operator: Operator, name: str, value: str, why: str
) -> None:
    before, told = operator.file.read_bytes(), []

    def again(reason: str) -> bool:
        told.append(reason)
        return False

    def change(path: Path) -> None:
        old = operator.values().get(name)
        text = path.read_text()
        path.write_text(text.replace(old, value) if old else f"{name}: {value}\n{text}")

    with pytest.raises(RaveError, match="nothing was changed") as caught:
        operator.edit(change, again=again)
    assert why in told[0]
    assert name in told[0]
    assert value.strip("'") not in told[0]
    assert caught.value.exit_code is ExitCode.SECRETS
    assert operator.file.read_bytes() == before
    assert len(draft.find(operator.file)) == 1


def test_all_wrong_values_are_said_at_once(operator: Operator) -> None:
    told: list[str] = []

    def again(why: str) -> bool:
        told.append(why)
        return False

    def change(path: Path) -> None:
        path.write_text(re.sub(r"(password|secret-key): .*", r"\1: short", path.read_text()))

    with pytest.raises(RaveError):
        operator.edit(change, again=again)
    assert "redis/password" in told[0]
    assert "grafana/secret-key" in told[0]


def test_a_value_that_was_wrong_before_does_not_stop_another_edit(operator: Operator) -> None:
    operator.seal(operator.values() | {"redis/password": "short"})
    assert operator.edit(editor("redis:", "# a comment\nredis:"))
    assert operator.codes() == {"value"}


def test_an_edit_that_cannot_be_written_is_kept(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise RaveError("no space left", exit_code=ExitCode.HOST)

    with monkeypatch.context() as patch:
        patch.setattr(store, "replace", full)
        with pytest.raises(RaveError, match="no space left") as caught:
            operator.edit(editor("redis:", "# typed\nredis:"))
    assert "what you typed is kept" in caught.value.detail[0]
    assert operator.edit(lambda path: None, resume=lambda kept: True)
    assert b"# typed" in sops.decrypt(operator.file.read_bytes(), operator.keys.text, output="yaml")


def test_a_multi_line_value_survives_an_edit(operator: Operator) -> None:
    before = operator.values()["tls/key"]
    operator.edit(editor("redis:", "# x\nredis:"))
    assert operator.values()["tls/key"] == before


def rave(*words: str, editor: str, answers: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "rave_cli", "secrets", *words],
        env=os.environ | {"EDITOR": editor}, input=answers, cwd="/",
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def scripted(home: Path) -> Callable[[str], str]:
    """Write an editor: a shell script that finds the text in $1."""

    def write(script: str) -> str:
        path = home / "editor"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return write


@pytest.mark.parametrize("number", ["KILL", "TERM", "HUP"])
def test_what_was_typed_survives_a_signal(scripted: Callable[[str], str], number: str) -> None:
    assert rave("init", editor="true").returncode == 0
    ended = rave("edit", editor=scripted(f"sed -i '1i # typed' $1; kill -{number} $PPID; sleep 1"))
    assert ended.returncode != 0
    if number != "KILL":
        assert ended.returncode == 128 + signal.Signals[f"SIG{number}"]
        assert "what you typed is kept in memory" in ended.stderr
    asked = rave("edit", editor=scripted("cp $1 $HOME/seen"), answers="y\n")
    assert asked.returncode == 0, asked.stderr
    assert "was not finished" in asked.stderr
    assert asked.stdout.endswith("written\n")
    done = rave("edit", editor=scripted("grep -q '^# typed' $1"))
    assert done.returncode == 0
    assert done.stdout.endswith("unchanged\n")


def test_nobody_to_ask_means_nothing_is_thrown_away(scripted: Callable[[str], str]) -> None:
    rave("init", editor="true")
    rave("edit", editor=scripted("sed -i '1i # typed' $1; exit 1"))
    asked = rave("edit", editor="true")
    assert asked.returncode == ExitCode.INTERRUPTED
    thrown = rave("edit", "--discard", "--json", editor="true")
    assert json.loads(thrown.stdout)["discarded"] == 1
    assert rave("edit", editor="true").returncode == 0


def test_the_answer_decides_about_editing_again(scripted: Callable[[str], str]) -> None:
    rave("init", editor="true")
    again = "if [ -e $HOME/second ]; then sed -i 1d $1; exit; fi; touch $HOME/second"
    done = rave("edit", editor=scripted(f"{again}; sed -i '1i [' $1"), answers="y\n")
    assert done.returncode == 0, done.stderr
    assert "Edit again?" in done.stderr
    assert done.stdout.endswith("unchanged\n")
