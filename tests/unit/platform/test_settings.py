"""The dispatcher's settings and secrets: read strictly, and never shown."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uvicorn
from starlette.applications import Starlette

from rave_cli.profiles.names import BAKED
from rave_platform import dispatcher, events, service
from rave_platform.adapters import configuration, settings
from rave_platform.adapters.configuration import SettingsError
from rave_platform.adapters.logs import JsonLines
from rave_platform.adapters.settings import DispatcherSettings
from rave_platform.adapters.store import SqliteEvents
from rave_platform.application.cancelling import cancel
from rave_platform.domain.handover import RETENTION_DAYS
from rave_platform.domain.signatures import BodyHmac, GitLabHook, ProjectHmac, StandardWebhook
from tests.unit.platform.deliveries import delivery
from tests.waiting import NEVER

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNING = "whsec_" + base64.b64encode(b"k" * 32).decode()


@pytest.fixture(autouse=True)
def _credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))


@pytest.fixture
def _own_logs() -> Iterator[None]:
    """Put back where logs went: the dispatcher sends them to its stderr."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


def secret(tmp_path: Path, name: str, text: str, mode: int = 0o400) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / name).chmod(mode)


def write(tmp_path: Path, text: str) -> Path:
    place = tmp_path / "settings.toml"
    place.write_text(f'store = "{tmp_path}/events.db"\n{text}')
    place.chmod(0o644)
    return place


def scheme(tmp_path: Path, text: str) -> object:
    found = settings.read(write(tmp_path, f"[sources.forge]\n{text}"))
    (source,) = settings.webhook_sources(found)
    return source.scheme


def test_the_secret_before_on_a_line_of_its_own_counts_too(tmp_path: Path) -> None:
    secret(tmp_path, "word", "the new one\nthe one before\n")
    found = scheme(tmp_path, 'scheme = "github"\nsecret_files = ["word"]')
    assert isinstance(found, BodyHmac)
    assert found.keys == (b"the new one", b"the one before")


def test_a_source_of_each_kind_is_read_with_its_secrets(tmp_path: Path) -> None:
    secret(tmp_path, "word", "a word\n")
    secret(tmp_path, "signing", SIGNING)
    for name in ("github", "gitea", "pagure"):
        found = scheme(tmp_path, f'scheme = "{name}"\nsecret_files = ["word", "signing"]')
        assert isinstance(found, BodyHmac)
        assert found.keys == (b"a word", SIGNING.encode())
    found = scheme(tmp_path, 'scheme = "standard"\nsecret_files = ["signing"]')
    assert found == StandardWebhook((b"k" * 32,))
    found = scheme(
        tmp_path, 'scheme = "gitlab"\nsecret_files = ["signing"]\ntoken_files = ["word"]'
    )
    assert found == GitLabHook((b"a word",), (b"k" * 32,))


def test_a_pagure_may_have_keys_that_follow_from_a_secret(tmp_path: Path) -> None:
    text = 'scheme = "pagure"\nproject_key_files = ["word"]'
    assert scheme(tmp_path, text) is None
    secret(tmp_path, "word", "a word\n")
    assert scheme(tmp_path, text) == ProjectHmac((b"a word",))
    for other in (text.replace("pagure", "github"), f'{text}\nsecret_files = ["word"]'):
        with pytest.raises(SettingsError, match="project_key_files are Pagure's, and alone"):
            scheme(tmp_path, other)


def test_secrets_that_are_not_there_yet_leave_a_source_closed(tmp_path: Path) -> None:
    secret(tmp_path, "word", "a word")
    assert scheme(tmp_path, 'scheme = "github"\nsecret_files = ["later"]') is None
    # A token must not do where a signature is to be demanded.
    both = 'scheme = "gitlab"\nsecret_files = ["later"]\ntoken_files = ["word"]'
    assert scheme(tmp_path, both) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("port = 99999", "port"),
        ('mode = "fast"', "mode"),
        ("unknown = 1", "unknown"),
        ("[sources.forge]\nscheme = 'svn'", "scheme"),
        ("[sources.'For ge']\nscheme = 'github'", "sources"),
        ("[sources.forge]\nscheme = 'github'\nrate_per_second = 0", "rate_per_second"),
        ("= 1", "cannot be read"),
    ],
)
def test_settings_that_say_something_else_are_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        settings.read(write(tmp_path, text))


def test_what_is_no_secret_is_refused_without_showing_it(tmp_path: Path) -> None:
    secret(tmp_path, "open", "hunter2", 0o444)
    secret(tmp_path, "empty", "\n")
    secret(tmp_path, "long", "x" * 5000)
    secret(tmp_path, "word", "hunter2")
    for text in (
        'scheme = "github"\nsecret_files = ["open"]',
        'scheme = "github"\nsecret_files = ["empty"]',
        'scheme = "github"\nsecret_files = ["long"]',
        'scheme = "github"\nsecret_files = ["."]',
        'scheme = "standard"\nsecret_files = ["word"]',
        'scheme = "github"',
    ):
        with pytest.raises(SettingsError) as caught:
            scheme(tmp_path, text)
        assert "hunter2" not in str(caught.value)


def test_settings_that_others_may_write_are_refused(tmp_path: Path) -> None:
    place = write(tmp_path, "")
    place.chmod(0o666)
    with pytest.raises(SettingsError, match="others may write"):
        settings.read(place)


def test_the_mode_says_how_long_events_are_kept(tmp_path: Path) -> None:
    secret(tmp_path, "nats", "hunter2")
    nats = '[nats]\npassword_file = "nats"'
    for mode, days in (("safe", 7), ("full", 30)):
        found = settings.read(write(tmp_path, f'mode = "{mode}"\n{nats}'))
        stream = configuration.stream_settings(found.nats, found.retention_days)
        assert (found.retention_days, stream.max_age.days) == (days, days)
        assert stream.password == "hunter2"
        assert "hunter2" not in repr(stream)


def test_events_are_kept_as_long_as_the_catalog_has_event_logs_kept() -> None:
    catalog = json.loads(BAKED.read_bytes())
    facts = catalog["profiles"]["development"]["bases"]["debian"]["facts"]
    assert facts["journal"]["days"] == RETENTION_DAYS
    # And a message with the largest body that is taken fits into what NATS takes.
    limit = DispatcherSettings(store=Path("x")).body_limit_kib * 1024
    assert limit + 100 * 1024 < facts["nats"]["maxPayloadBytes"]


def test_a_line_of_the_log_holds_what_was_named_and_nothing_else() -> None:
    try:
        int("hunter2")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 1, "it %s", ("failed",), sys.exc_info())
    record.source, record.password = "forge", "hunter2"
    line = JsonLines().format(record)
    assert "hunter2" not in line
    found = json.loads(line)
    assert (found["message"], found["source"], found["exception"]) == (
        "it failed", "forge", "ValueError",
    )  # fmt: skip
    assert "test_settings.py:" in found["at"]


def test_a_part_that_swallows_its_cancellation_ends_all_the_same() -> None:
    async def stubborn() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(NEVER)
        await asyncio.sleep(NEVER)

    async def work() -> bool:
        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        await cancel([task])
        return task.cancelled()

    assert asyncio.run(work())


@pytest.mark.parametrize("silently", [True, False])
def test_half_a_dispatcher_does_not_go_on(*, silently: bool) -> None:
    server = uvicorn.Server(uvicorn.Config(Starlette()))

    async def serve() -> None:
        while not server.should_exit:
            await asyncio.sleep(0)

    async def part() -> None:
        raise asyncio.CancelledError if silently else ValueError("it broke")

    async def work() -> None:
        beside = [asyncio.create_task(part()), asyncio.create_task(asyncio.sleep(NEVER))]
        await service.together(asyncio.create_task(serve()), beside, server)

    with pytest.raises(RuntimeError, match="ended by itself") as caught:
        asyncio.run(work())
    assert (caught.value.__cause__ is None) == silently


@pytest.mark.usefixtures("_own_logs")
def test_wrong_words_and_wrong_settings_end_it_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatcher.main([]) == 2
    assert dispatcher.main([str(tmp_path / "none.toml")]) == 1
    lines = capsys.readouterr().err
    assert "cannot be read" in lines
    assert "Traceback" not in lines


def test_events_can_be_listed_shown_and_replayed_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(write(tmp_path, ""))
    with SqliteEvents(tmp_path / "events.db", 7) as store:
        store.add([delivery(1), delivery(2)], 0.0)

    def ask(*words: str) -> object:
        assert events.main([place, *words]) == 0
        return json.loads(capsys.readouterr().out)

    listed = ask("list", "--state", "accepted", "--source", "forge", "--most", "1")
    assert isinstance(listed, list)
    uuid = listed[0]["event_uuid"]
    shown = ask("show", uuid)
    assert isinstance(shown, dict)
    assert shown["payload"]["number"] == 2
    assert ask("dead") == []
    assert ask("replay", "--dead") == {"replayed": 0}
    assert events.main([place, "show", "00000000-0000-0000-0000-000000000001"]) == 1
    assert "there is no event" in capsys.readouterr().err
