"""The settings of an agent, and what is refused of them."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from rave_platform import agent
from rave_platform.adapters.agents import settings
from rave_platform.adapters.agents.llm import LlmRunner, UnconfiguredRunner
from rave_platform.adapters.agents.template import TemplateRunner
from rave_platform.adapters.configuration import SettingsError
from rave_platform.adapters.forge import archive
from rave_platform.adapters.forge import settings as forges
from rave_platform.adapters.forge.gitlab import GitLabForge
from rave_platform.adapters.forge.pagure import PagureForge
from rave_platform.application.forge import ForgeRefusedError
from rave_platform.domain.agents.limits import TaskLimits

if TYPE_CHECKING:
    from pathlib import Path

    from rave_platform.adapters.agents.settings import AgentSettings

GITLAB = '[forge.gitlab]\nurl = "http://127.0.0.1:1"\nnamespace = "rave"\ntoken_file = "token"\n'
PAGURE = '[forge.pagure]\nurl = "http://127.0.0.1:1"\nuser = "rave"\ntoken_file = "token"\n'
LLM = '[llm]\nargv = ["claude"]\ntest_argv = ["make", "test"]\nkey_file = "key"\n'


@pytest.fixture(autouse=True)
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "token").write_text("a-token\n")
    (tmp_path / "token").chmod(0o400)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    return tmp_path


def read(place: Path, forge: str = GITLAB, first: str = "") -> AgentSettings:
    file = place / "agent.toml"
    file.write_text(f'state = "{place}"\n{first}{forge}')
    file.chmod(0o644)
    return settings.read(file)


def test_an_agent_has_one_forge_with_a_token(credentials: Path) -> None:
    assert isinstance(forges.forge(read(credentials).forge), GitLabForge)
    assert isinstance(forges.forge(read(credentials, PAGURE).forge), PagureForge)
    for forge in (GITLAB + PAGURE, "[forge]\n"):
        with pytest.raises(SettingsError, match="either gitlab or pagure"):
            read(credentials, forge)
    with pytest.raises(SettingsError, match="forge"):
        read(credentials, GITLAB.replace("127.0.0.1:1", "127.0.0.1:1/"))
    (credentials / "token").unlink()
    with pytest.raises(SettingsError, match="token is not there"):
        forges.forge(read(credentials).forge)


def test_limits_are_as_the_settings_say(credentials: Path) -> None:
    assert settings.limits(read(credentials)) == TaskLimits()
    found = read(credentials, GITLAB + "[limits]\nseconds = 60\nattempts = 2\n")
    assert settings.limits(found) == TaskLimits(60.0, attempts=2)
    assert (found.mode, found.retention_days) == ("safe", 7)


def test_a_coding_agent_is_off_until_it_has_a_command_and_a_key(credentials: Path) -> None:
    first = 'runner = "llm"\n'
    assert isinstance(settings.runner(read(credentials)), TemplateRunner)
    assert isinstance(settings.runner(read(credentials, GITLAB + LLM)), TemplateRunner)
    assert isinstance(settings.runner(read(credentials, GITLAB, first)), UnconfiguredRunner)
    found = read(credentials, GITLAB + LLM, first)
    assert isinstance(settings.runner(found), UnconfiguredRunner)
    (credentials / "key").write_text("a-secret")
    (credentials / "key").chmod(0o400)
    assert isinstance(settings.runner(found), LlmRunner)
    assert "a-secret" not in repr(settings.runner(found))


def test_who_starts_it_otherwise_is_told_how(
    credentials: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ([], ["x"], ["x", "plumber"], ["x", "ai-engineer", "A/B"], ["x"] * 4):
        assert agent.main(words) == 2
        assert "backend-architect" in capsys.readouterr().err
    assert agent.main([str(credentials / "nowhere.toml"), "ai-engineer"]) == 1
    assert "cannot serve" in capsys.readouterr().err


def test_what_is_no_archive_or_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for data in (b"", b"x" * 2000):
        with pytest.raises(ForgeRefusedError, match="no archive"):
            archive.files(data, strip=0)
    monkeypatch.setattr(archive, "MOST_FILES", 0)
    with pytest.raises(ForgeRefusedError, match="too large"):
        archive.files(_tar(), strip=0)


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("file"))
    return out.getvalue()


def test_links_of_an_archive_are_left_out() -> None:
    assert archive.files(_tar(), strip=0) == {"file": b""}
