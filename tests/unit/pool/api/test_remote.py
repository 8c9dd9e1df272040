"""Commands that ask another pool than their own: what they show is what the pool's own would."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from rave_cli import app
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.access import remote
from rave_cli.pool.access.reach import reach
from rave_cli.pool.api import certificate
from rave_cli.pool.api.tokens import Tokens
from rave_cli.pool.files import artifacts, inputs
from rave_cli.pool.jobs.job import AttemptFacts, Began, Ended, Printed
from rave_cli.pool.jobs.store import open_store
from rave_cli.pool.jobs.work import Work
from rave_cli.pool.proof import statement_bytes
from rave_cli.transcript import signing_key
from rave_cli.transcript.dsse import seal
from tests.waiting import CEILING

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.pool.jobs.job import Happening

    from .conftest import ServedApi


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "ANSWERS", CEILING)


def rave(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        app.main(["pool", *words])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_each_verb_says_of_another_pool_what_it_says_of_its_own(
    api: ServedApi, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a").write_text("x")
    at = ("--endpoint", api.unix)
    assert rave("submit", *at, "--input", str(tmp_path / "src"), "--", "sh", "-c", "true") == 0
    name = capsys.readouterr().out.strip()
    with open_store() as store:
        happened: list[Happening] = [
            Began(1, 1, "a"),
            Printed(1, 1, b"a\nb"),
            Ended(2, 1, "error", None, "w", 0, 4),
        ]
        store.record([(name, what) for what in happened])
        store.accept([store.load(name).work])
    for words in (
        ("list", "--json"), ("list", "--state", "error", "--json"), ("show", name[:8], "--json"),
        ("logs", name), ("dead", "--json"),
        ("explain", name), ("trace", name), ("trace", name, "--json"),
        ("logs", name, "--follow"), ("scale", "3"), ("drain", "--no-wait"),
        ("drain", "--end"), ("cancel", name),
    ):  # fmt: skip
        found = []
        for where in ((), at):
            assert rave(*words, *where) == 0
            found.append(capsys.readouterr().out)
        assert found[0] == found[1], words
    assert rave("status", "--json", *at) == 0
    assert json.loads(capsys.readouterr().out)["jobs"] == {"error": 1, "waiting": 1}
    assert rave("retry", name, *at) == 0
    assert f"(again {name})" in capsys.readouterr().out
    assert rave("retry", "--dead", *at) == 0
    assert rave("dead", "--drop", name, *at) == 0


def test_what_a_job_left_and_its_proof_are_judged_here(
    api: ServedApi, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    key = signing_key()
    with open_store() as store:
        (job,) = store.accept([Work(("true",))], owner="somebody")
        place = artifacts.place_of(job.name, 1)
        (place / "out").mkdir(parents=True)
        (place / "out/a b").write_text("left")
        (place / "run").write_text("#!/bin/sh\n")
        (place / "run").chmod(0o700)
        left = artifacts.found_in(place)
        facts = AttemptFacts(
            "1" * 64, "2" * 64, artifacts=left, executable=artifacts.executable(place, left)
        )
        happened: list[Happening] = [
            Began(1, 1, "a"),
            Printed(1, 1, b"x"),
            Ended(2, 1, "success", 0, "", 0, 0, facts),
        ]
        told = [(job.name, what) for what in happened]
        store.record(told, seal=lambda job, out: seal(statement_bytes(job, out), key))
    at = ("--endpoint", api.unix)
    trusted = ("--key", str(key.public_file))
    for number, words in enumerate(
        (("artifacts", job.name, "--json"), ("verify", job.name, *trusted, "--json"))
    ):
        found: list[str] = []
        for where in ((), at):
            saved = () if number == 0 else ("--save", str(tmp_path / f"proof{len(found)}"))
            assert rave(*words, *saved, *where) == 0
            found.append(capsys.readouterr().out)
        assert found[0] == found[1]
    assert (tmp_path / "proof0").read_bytes() == (tmp_path / "proof1").read_bytes()
    assert rave("artifacts", job.name, "--to", str(tmp_path / "to"), *at) == 0
    assert (tmp_path / "to/out/a b").read_text() == "left"
    assert [os.access(tmp_path / "to" / one, os.X_OK) for one in ("run", "out/a b")] == [
        True,
        False,
    ]
    # A pool that says something else than was signed is found out where it is asked from.
    (place / "out/a b").write_text("kept")
    assert (
        rave("artifacts", job.name, "--to", str(tmp_path / "other"), *at) == ExitCode.VERIFICATION
    )
    assert not (tmp_path / "other").exists()
    assert rave("verify", job.name, *trusted, *at) == ExitCode.VERIFICATION
    (place / "out/a b").write_text("left")
    with open_store() as store:
        for change in (
            "UPDATE jobs SET facts = json_set(facts, '$.executable', json_array('out/a b'))",
            "UPDATE jobs SET facts = json_set(facts, '$.executable', json_array('run'))",
            "UPDATE jobs SET owner = 'else'",
        ):
            store._db.execute(change)
            whole = "'run'" in change
            done = rave("verify", job.name, *trusted, *at)
            assert done == (0 if whole else ExitCode.VERIFICATION)


def test_a_submission_with_a_key_is_one_job_wherever_it_is_asked_for(
    api: ServedApi, capsys: pytest.CaptureFixture[str]
) -> None:
    names = set()
    for where in ((), ("--endpoint", api.unix), ()):
        words = ("--idempotency-key", 'a"b\\', *where, "--", "true")
        assert rave("submit", *words) == 0
        names.add(capsys.readouterr().out.strip())
    assert len(names) == 1
    words = ("--idempotency-key", 'a"b\\', "--endpoint", api.unix, "--", "false")
    assert rave("submit", *words) == ExitCode.USAGE
    assert rave("submit", "--idempotency-key", "a b", "--", "true") == ExitCode.USAGE


def test_a_job_is_run_over_tls_and_ends_as_its_command(
    api: ServedApi, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, token = Tokens().create("ci", "submitter", 1, time.time())
    monkeypatch.setenv("RAVE_POOL_TOKEN", token)
    monkeypatch.setenv("RAVE_POOL_CA", str(api.trusted))
    monkeypatch.setenv("RAVE_POOL_ENDPOINT", api.https)

    def runs() -> None:
        with open_store() as store:
            while not (jobs := store.newest(1)):
                time.sleep(0.02)
            happened: list[Happening] = [
                Began(1, 1, "a"),
                Printed(1, 1, b"out\n"),
                Ended(2, 1, "failure", 7, "", 1, 0),
            ]
            store.record([(jobs[0].name, what) for what in happened])

    runner = threading.Thread(target=runs)
    runner.start()
    code = rave("run", "--", "sh", "-c", "echo out; exit 7")
    runner.join()
    assert (code, capfd.readouterr().out) == (7, "out\n")
    with open_store() as store:
        (other,) = store.accept([Work(("true",))], owner="somebody")
    assert rave("cancel", other.name) == ExitCode.SECRETS


def test_what_a_job_is_given_goes_with_it(api: ServedApi, tmp_path: Path) -> None:
    from dataclasses import replace

    (tmp_path / "a").write_bytes(b"x" * 200_000)
    given = inputs.keep_folder(tmp_path)
    kept = inputs.place(given).read_bytes()
    with reach(api.unix) as pool:
        work = replace(Work(("true",)), given=given)
        (job,) = pool.submit([work])
        assert job.work.given is not None
        assert job.work.given.sha256 == given.sha256
    assert inputs.place(given).read_bytes() == kept


# httpcore leaves a socket to the garbage collector whose connecting fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_whoever_cannot_be_asked_is_named_with_why(
    home: Path, monkeypatch: pytest.MonkeyPatch, api: ServedApi
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        gone = f"https://127.0.0.1:{unused.getsockname()[1]}"
        for endpoint in (gone, f"unix:{home}/none", api.https):
            # Its certificate is not trusted here.
            with reach(endpoint) as pool, pytest.raises(RaveError) as caught:
                pool.newest(1)
            assert caught.value.exit_code is ExitCode.NOT_READY
            assert endpoint in caught.value.message
            with reach(endpoint) as pool, pytest.raises(RaveError) as caught:
                list(pool.follow("ab"))
            assert caught.value.exit_code is ExitCode.NOT_READY
    for endpoint in ("", "x", "http://127.0.0.1:1", "https://", "unix:", "https://a:b@c:1"):
        with pytest.raises(RaveError) as caught, reach(endpoint):
            pass
        assert caught.value.exit_code is ExitCode.USAGE
    monkeypatch.setenv("RAVE_POOL_CA", str(home / "none"))
    with pytest.raises(RaveError) as caught, reach(api.https):
        pass
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_token_is_made_listed_and_revoked(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rave("token", "create", "ci", "--role", "submitter", "--hours", "1") == 0
    token = capsys.readouterr().out.strip()
    held = Tokens().holder(token, time.time())
    assert held is not None
    assert held.role == "submitter"
    assert rave("token", "list") == 0
    assert "submitter" in capsys.readouterr().out
    assert rave("token", "revoke", "ci") == 0
    assert Tokens().holder(token, time.time()) is None
    capsys.readouterr()
    assert rave("token", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["good"] is False
    assert rave("token", "create", "CI") == ExitCode.USAGE


# --- the certificate -----------------------------------------------------------------------------


def test_the_certificate_is_kept_until_it_will_not_do_any_more(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = certificate.own("127.0.0.1")
    assert (first.made, first.key.stat().st_mode & 0o777) == (True, 0o600)
    assert not certificate.own("0.0.0.0").made  # noqa: S104 - it names none
    assert certificate.own("192.0.2.7").made
    assert not certificate.own("192.0.2.7").made
    monkeypatch.setattr(certificate, "MADE_ANEW", certificate.LASTS + 1)
    assert certificate.own("192.0.2.7").made
    said = subprocess.run(
        ["openssl", "x509", "-in", str(first.certificate), "-noout", "-ext", "subjectAltName"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "IP Address:192.0.2.7" in said.stdout


def test_whoever_trusts_the_certificate_lets_it_vouch_for_nothing_but_its_own_names(
    home: Path,
) -> None:
    found = x509.load_pem_x509_certificate(certificate.own("192.0.2.7").certificate.read_bytes())
    of = found.extensions.get_extension_for_class
    names = of(x509.SubjectAlternativeName).value
    limits = of(x509.NameConstraints)
    assert limits.critical
    permitted = limits.value.permitted_subtrees or []
    assert {str(one.value) for one in permitted if isinstance(one, x509.DNSName)} == set(
        names.get_values_for_type(x509.DNSName)
    )
    networks = [one.value for one in permitted if isinstance(one, x509.IPAddress)]
    assert {str(one) for one in networks} == {
        f"{one}/{one.max_prefixlen}" for one in names.get_values_for_type(x509.IPAddress)
    }
    assert "192.0.2.7/32" in {str(one) for one in networks}


def test_a_certificate_of_before_the_constraints_is_made_anew(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(x509, "NameConstraints", lambda *_: x509.PrecertPoison())
        assert certificate.own("127.0.0.1").made
    assert certificate.own("127.0.0.1").made
    assert not certificate.own("127.0.0.1").made


def test_a_key_that_others_can_read_is_not_used(home: Path) -> None:
    made = certificate.own("127.0.0.1")
    made.key.chmod(0o640)
    with pytest.raises(RaveError) as caught:
        certificate.own("127.0.0.1")
    assert caught.value.exit_code is ExitCode.SECRETS
    with pytest.raises(RaveError) as caught:
        certificate.given(made.certificate, made.key)
    assert caught.value.exit_code is ExitCode.SECRETS


@pytest.mark.parametrize("text", ["", "x", ":1", "host:", "host:x", "host:65536", "1:2:x"])
def test_an_address_has_a_host_and_a_port(text: str) -> None:
    assert certificate.address("[::1]:8443") == ("::1", 8443)
    with pytest.raises(RaveError) as caught:
        certificate.address(text)
    assert caught.value.exit_code is ExitCode.USAGE
