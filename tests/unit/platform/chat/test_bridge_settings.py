"""The bridge's settings: what is read, and what is refused."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from rave_platform import bridge
from rave_platform.adapters.chat import settings
from rave_platform.adapters.chat.matrix import MatrixChannel
from rave_platform.adapters.chat.mattermost import MattermostChannel
from rave_platform.adapters.configuration import SettingsError
from rave_platform.domain.chat.commands import Verb
from tests.unit.platform.chat.talk import ROOM, groups

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))


def write(tmp_path: Path, words: str) -> Path:
    place = tmp_path / "settings.toml"
    place.write_text(f'store = "{tmp_path}/bridge.db"\n{words}')
    place.chmod(0o644)
    return place


MATRIX = '[matrix]\nas_token_file = "as"\nhs_token_file = "hs"'
MATTERMOST = '[mattermost]\nurl = "http://mm"\ntoken_file = "as"'


def test_settings_of_both_chats_are_read(tmp_path: Path) -> None:
    for name in ("as", "hs"):
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(0o400)
    words = f'rooms = ["{ROOM}"]\n[permissions]\nstaff = ["run", "create project"]\n'
    found = settings.read(write(tmp_path, words + MATRIX))
    assert settings.permissions(found).verbs(frozenset({"staff"})) == {
        Verb.RUN, Verb.CREATE_PROJECT,
    }  # fmt: skip
    assert groups(settings.directory(found), "alice") == frozenset()
    assert (found.retention_days, found.nats.max_mib) == (7, 64)
    assert isinstance(settings.channel(found), MatrixChannel)
    found = settings.read(write(tmp_path, words + MATTERMOST))
    assert isinstance(settings.channel(found), MattermostChannel)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "either matrix or mattermost"),
        (f"{MATRIX}\n{MATTERMOST}", "either matrix or mattermost"),
        (f'[permissions]\nstaff = ["rum"]\n{MATRIX}', "permissions"),
        (f"port = 70000\n{MATRIX}", "port"),
        (f"unknown = 1\n{MATRIX}", "unknown"),
        (f'{MATRIX}\nserver = "rave.test"', "server"),
        (f'groups_socket = "/a"\ngroups_file = "/b"\n{MATRIX}', "groups_socket or groups_file"),
    ],
)
def test_settings_that_say_something_else_are_refused(
    tmp_path: Path, words: str, says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        settings.read(write(tmp_path, words))


def test_a_token_that_is_not_there_or_none_is_said(tmp_path: Path) -> None:
    found = settings.read(write(tmp_path, MATRIX))
    with pytest.raises(SettingsError, match="as is not there"):
        settings.channel(found)
    (tmp_path / "as").write_bytes(b"\xff")
    (tmp_path / "as").chmod(0o400)
    with pytest.raises(SettingsError, match="as is no token"):
        settings.channel(found)


@pytest.fixture
def _own_logs() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.usefixtures("_own_logs")
def test_wrong_words_and_wrong_settings_end_it_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bridge.main([]) == 2
    assert bridge.main([str(write(tmp_path, ""))]) == 1
    lines = capsys.readouterr().err
    assert "either matrix or mattermost" in lines
    assert "Traceback" not in lines
