"""A revision becomes one job with its commit, or is tried again, and is given up in the end."""

from __future__ import annotations

import base64
import subprocess
import tarfile
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli import process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.files import inputs
from rave_cli.pool.jobs.work import JobInput
from rave_cli.pool.sources import making
from rave_cli.pool.sources.ledger import RevisionLedger, open_ledger
from rave_cli.pool.sources.making import MOST_TRIES, fetched, make_jobs
from rave_cli.pool.sources.revision import Revision

from .forges import TOKEN, commit, source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rave_cli.pool.sources.source import ForgeSource

GIVEN = JobInput("0" * 64, 1, "a commit")


@pytest.fixture
def ledger() -> Iterator[RevisionLedger]:
    with open_ledger() as found:
        yield found


def tell(ledger: RevisionLedger, number: int = 1, **other: bool) -> Revision:
    found = Revision("push", "main", commit(number), **other)  # type: ignore[arg-type]
    ledger.take("app", f"d-{number}", found, "hook", 1.0)
    return found


def test_each_revision_becomes_one_job(ledger: RevisionLedger) -> None:
    told = [tell(ledger, number) for number in range(3)]
    asked: list[Revision] = []

    def fetch(_source: ForgeSource, revision: Revision) -> JobInput:
        asked.append(revision)
        return GIVEN

    assert make_jobs(ledger, source(), fetch, lambda: 2.0) == 3
    assert make_jobs(ledger, source(), fetch, lambda: 2.0) == 0
    assert asked == told
    jobs = list(reversed(ledger.newest(9)))
    commits = [dict(job.work.environment)["FORGE_COMMIT"] for job in jobs]
    assert commits == [one.commit for one in told]
    assert {job.work.given for job in jobs} == {GIVEN}
    known = list(reversed(ledger.revisions("app", 9)))
    assert [one.job for one in known] == [job.name for job in jobs]


def test_whoever_is_second_makes_no_other(ledger: RevisionLedger) -> None:
    tell(ledger)

    def fetch(_source: ForgeSource, _revision: Revision) -> JobInput:
        # Another process makes it a job meanwhile.
        with open_ledger() as other:
            (known,) = other.waiting("app", 2.0)
            assert other.make(known.number, source().work, "source:app") is not None
        return GIVEN

    assert make_jobs(ledger, source(), fetch, lambda: 2.0) == 0
    assert len(ledger.newest(9)) == 1


def test_what_cannot_be_fetched_is_tried_again_and_then_given_up(ledger: RevisionLedger) -> None:
    tell(ledger)
    tries, clock = 0, [2.0]

    def fetch(_source: ForgeSource, _revision: Revision) -> JobInput:
        nonlocal tries
        tries += 1
        raise RaveError("git fetch fails", exit_code=ExitCode.USAGE, detail=("no such commit",))

    for _ in range(MOST_TRIES + 3):
        make_jobs(ledger, source(), fetch, lambda: clock[0])
        make_jobs(ledger, source(), fetch, lambda: clock[0])
        clock[0] += 4000
    assert tries == MOST_TRIES
    (known,) = ledger.revisions("app", 9)
    assert (known.state, known.why) == ("failed", "git fetch fails; no such commit")
    assert ledger.newest(9) == []


def test_a_full_pool_costs_no_try(ledger: RevisionLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(ledger)
    monkeypatch.setattr("rave_cli.pool.sources.ledger.MOST_OPEN", 0)
    assert make_jobs(ledger, source(), lambda *_: GIVEN, lambda: 2.0) == 0
    (known,) = ledger.revisions("app", 9)
    assert (known.state, known.tries) == ("waiting", 0)
    assert "full" in known.why
    monkeypatch.undo()
    assert make_jobs(ledger, source(), lambda *_: GIVEN, lambda: 99.0) == 1


def test_what_a_source_does_not_build_any_more_is_not_built(ledger: RevisionLedger) -> None:
    tell(ledger)
    assert make_jobs(ledger, source(on=("tag",)), lambda *_: GIVEN, lambda: 2.0) == 0
    assert ledger.revisions("app", 9)[0].state == "failed"


def test_the_commit_is_that_of_the_revision(tmp_path: Path) -> None:
    work = tmp_path / "app"
    run = ["git", "-C", str(work), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "init", "--quiet", "-b", "main", str(work)], check=True)
    shas = []
    for number in range(2):
        (work / "ci.sh").write_text(f"echo {number}\n")
        subprocess.run([*run, "add", "."], check=True)
        subprocess.run([*run, "commit", "--quiet", "-m", f"{number}"], check=True)
        told = subprocess.run([*run, "rev-parse", "HEAD"], check=True, capture_output=True)
        shas.append(told.stdout.decode().strip())
    # Not the branch as it is by now.
    given = fetched(source(clone=str(work)), Revision("push", "main", shas[0]), "")
    with tarfile.open(inputs.place(given)) as archive:
        file = archive.extractfile("ci.sh")
        assert file is not None
        assert file.read() == b"echo 0\n"
    with pytest.raises(RaveError, match="git fetch fails"):
        fetched(source(clone=str(work)), Revision("push", "main", commit(9)), "")
    assert inputs.look(str(work)) == 2


def test_git_shows_the_token_to_its_forge_and_in_no_argument(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.append(self.headers.get("Authorization", ""))
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{server.server_port}/elsewhere")
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    ran: list[str] = []
    real = process.run

    def run(argv: Sequence[str], **more: Any) -> process.Completed:
        ran.extend(map(str, argv))
        return real(argv, **more)

    monkeypatch.setattr(process, "run", run)
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        with suppress(RaveError):
            fetched(source(url=url), Revision("push", "main", commit(1)), TOKEN)
        # It was shown once, and not where that leads to.
        expected = "Basic " + base64.b64encode(f"oauth2:{TOKEN}".encode()).decode()
        assert shown == [expected]
        with suppress(RaveError):
            fetched(
                source(url="https://x.example", clone=f"{url}/a"),
                Revision("push", "m", commit(1)),
                TOKEN,
            )
        assert set(shown[1:]) <= {""}
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert not any(TOKEN in word or expected.split()[1] in word for word in ran)
    assert making.authorization(source(url=url), "") == ""
