"""What a job left goes to a real registry, with its proof and a statement that it was pushed."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from rave_cli import app, paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool import proof, pushing
from rave_cli.pool.api.events import JobFeed
from rave_cli.pool.api.listening import listening
from rave_cli.pool.asking import following
from rave_cli.pool.files import artifacts
from rave_cli.pool.jobs.job import Artifact, AttemptFacts, Began, Ended
from rave_cli.pool.jobs.store import open_store
from rave_cli.pool.jobs.work import Work
from rave_cli.pool.serving.metrics import PoolMetrics
from rave_cli.registry import pushed
from rave_cli.registry.content import of_bytes
from rave_cli.registry.manifest import EMPTY, TITLE, Manifest
from rave_cli.transcript import RefusedError, signing_key
from rave_cli.transcript.dsse import seal
from rave_cli.transcript.trust import TrustedKey

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.pool.jobs.job import Job
    from tests.registries import RealRegistry

    from .conftest import Reach

pytestmark = pytest.mark.integration

LEFT = {"report.xml": b"<ok/>", "bin/app": b"\x7fELF", "bin/same": b"\x7fELF"}


def begin(job: Job) -> None:
    """Let a job be taken."""
    with open_store() as store:
        store.record([(job.name, Began(time.time(), 1, "agent-1"))])


def end(job: Job, left: dict[str, bytes]) -> None:
    """Let a job be over that has left something."""
    place = artifacts.place_of(job.name, 1)
    for path, data in left.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(data)
    facts = AttemptFacts(
        "1" * 64,
        "2" * 64,
        0.5,
        1.0,
        artifacts=tuple(
            Artifact(path, len(data), hashlib.sha256(data).hexdigest())
            for path, data in sorted(left.items())
        ),
    )
    ended = Ended(time.time(), 1, "success", 0, "", 0, 0, facts)
    with open_store() as store:
        store.record(
            [(job.name, ended)],
            seal=lambda over, said: seal(proof.statement_bytes(over, said), signing_key()),
        )


@pytest.fixture
def job(home: Path) -> Job:
    with open_store() as store:
        (found,) = store.accept([Work(("make",), artifacts=("report.xml", "bin"))])
    return found


def push(job: Job, dest: str, *words: str) -> Result:
    return CliRunner().invoke(
        app.cli, ["pool", "push", job.name[:4], dest, "--plain-http", "--json", *words]
    )


def test_what_it_left_is_an_artifact_with_its_proof_beside_it(
    registry: RealRegistry, reach: Reach, job: Job
) -> None:
    begin(job)
    end(job, LEFT)
    done = push(job, registry.at("team/app:1.0"))
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["kind"], said["name"], said["bytes"]) == ("job", job.name, 5 + 4 + 4 + 2)
    assert said["reference"] == registry.at(f"team/app:1.0@{said['digest']}")

    repository = reach(registry.at("team/app:1.0"))
    manifest, subject = repository.manifest()
    assert (manifest.artifact_type, subject.digest) == (pushing.ARTIFACT, said["digest"])
    found = {}
    for layer in manifest.layers:
        data = bytearray()
        repository.pull(layer, data.extend)
        found[layer.annotations[TITLE]] = bytes(data)
    assert found == LEFT

    (entry,) = repository.referrers(subject.digest, pushing.PROOF)
    (layer,) = repository.manifest(entry.digest)[0].layers
    envelope = bytearray()
    repository.pull(layer, envelope.extend)
    with open_store() as store:
        now = store.load(job.name)
        trusted = (TrustedKey(signing_key().public),)
        assert proof.verify(now, store.printout(now), bytes(envelope), trusted).result == "success"
    vouched = pushed.vouched(repository, subject, trusted)
    assert vouched.what["proof"] == "sha256:" + hashlib.sha256(envelope).hexdigest()

    shown = CliRunner().invoke(app.cli, ["pool", "show", job.name, "--json"])
    assert json.loads(shown.stdout)["pushed"] == [said["reference"]]


def test_twice_it_is_the_same_digest_and_nothing_is_sent(registry: RealRegistry, job: Job) -> None:
    begin(job)
    end(job, LEFT)
    first, second = (json.loads(push(job, registry.at("twice/app")).stdout) for _ in range(2))
    assert first["digest"] == second["digest"]
    assert second["sentBytes"] == 0


def test_one_that_left_nothing_is_refused(registry: RealRegistry, job: Job) -> None:
    begin(job)
    end(job, {})
    done = push(job, registry.at("nothing/app"))
    assert isinstance(done.exception, RaveError)
    assert done.exception.exit_code is ExitCode.USAGE
    assert "left nothing" in done.exception.message


def test_what_was_changed_since_is_not_pushed(registry: RealRegistry, job: Job) -> None:
    begin(job)
    end(job, LEFT)
    (artifacts.place_of(job.name, 1) / "report.xml").write_bytes(b"<no/>")
    done = push(job, registry.at("changed/app"))
    assert isinstance(done.exception, RaveError)
    assert done.exception.exit_code is ExitCode.VERIFICATION


def test_one_that_is_not_over_is_refused_or_waited_for(
    registry: RealRegistry, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(job)
    done = push(job, registry.at("early/app"))
    assert isinstance(done.exception, RaveError)
    assert "--wait" in str(done.exception.hint)
    monkeypatch.setattr(following, "require_served", lambda _name: None)
    ending = threading.Timer(0.2, end, (job, LEFT))
    ending.start()
    try:
        done = push(job, registry.at("early/app"), "--wait")
        assert done.exit_code == 0, (done.output, done.exception)
    finally:
        ending.join()


def test_of_a_pool_at_an_endpoint_it_is_the_same_and_no_file_stays_here(
    registry: RealRegistry, job: Job
) -> None:
    begin(job)
    end(job, LEFT)
    near = json.loads(push(job, registry.at("near/app")).stdout)
    with listening(JobFeed(), PoolMetrics("demo"), None) as (endpoint,):
        far = push(job, registry.at("far/app"), "--endpoint", endpoint)
        assert far.exit_code == 0, (far.output, far.exception)
        assert json.loads(far.stdout)["digest"] == near["digest"]
        assert list(paths.cache_dir().glob("artifacts-*")) == []
        # Whatever the pool's host says, it is compared here.
        (artifacts.place_of(job.name, 1) / "report.xml").write_bytes(b"<no/>")
        refused = push(job, registry.at("other/app"), "--endpoint", endpoint)
        assert isinstance(refused.exception, RaveError)
        assert refused.exception.exit_code is ExitCode.VERIFICATION


# --- and back ------------------------------------------------------------------------------------


def pull(source: str, target: Path, *words: str) -> Result:
    return CliRunner().invoke(
        app.cli, ["pool", "pull", source, "--to", str(target), "--plain-http", "--json", *words]
    )


def files(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_what_it_left_is_pulled_with_its_proof(
    registry: RealRegistry, job: Job, tmp_path: Path
) -> None:
    begin(job)
    end(job, LEFT)
    assert push(job, registry.at("back/app:1")).exit_code == 0
    key = str(signing_key().public_file)
    done = pull(registry.at("back/app:1"), tmp_path / "out", "--key", key)
    assert done.exit_code == 0, (done.output, done.exception)
    said = json.loads(done.stdout)
    assert (said["job"], said["result"]) == (job.name, "success")
    assert files(tmp_path / "out") == LEFT
    again = pull(registry.at("back/app:1"), tmp_path / "out")
    assert isinstance(again.exception, RaveError)
    assert again.exception.exit_code is ExitCode.USAGE
    plain = pull(registry.at("back/app:1"), tmp_path / "plain")
    assert json.loads(plain.stdout)["signer"] is None
    assert files(tmp_path / "plain") == LEFT


def test_files_that_its_proof_does_not_name_are_refused(
    registry: RealRegistry, reach: Reach, job: Job, tmp_path: Path
) -> None:
    begin(job)
    end(job, LEFT)
    push(job, registry.at("forged/app:1"))
    repository = reach(registry.at("forged/app:1"))
    manifest, subject = repository.manifest()
    envelope = None
    for entry in repository.referrers(subject.digest, pushing.PROOF):
        envelope = pushed.envelope_of(repository, entry)
    assert envelope is not None
    # Somebody whom one trusts vouches for other files, with the proof of this job.
    content = of_bytes(b"other")
    layer = content.described(pushing.FILE, {TITLE: "report.xml"})
    repository.push(content, layer, lambda _there: None)
    forged = replace(manifest, layers=(layer,))
    about = repository.put(forged)
    pushed.attach_statement(
        repository, about, pushing.PROOF, envelope, predicate="x", created="2026-11-26T00:00:00Z"
    )
    what = {"kind": "job", "name": job.name, "proof": f"sha256:{sha256(envelope).hexdigest()}"}
    pushed.vouch(repository, forged, about, what, signing_key())
    repository.tag(forged, "1")
    done = pull(
        registry.at("forged/app:1"), tmp_path / "out", "--key", str(signing_key().public_file)
    )
    assert isinstance(done.exception, RefusedError)
    assert done.exception.reason == "mismatch"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "titles",
    [
        ["../escaped"], ["/etc/escaped"], ["a/../../escaped"], ["a//b"], ["."], [""], ["a\nb"],
        ["a", "a/b"], ["a", "a"], ["x" * 300], ["\u202eexe"],
    ],
)  # fmt: skip
def test_a_file_that_would_lie_elsewhere_is_refused(
    registry: RealRegistry, reach: Reach, home: Path, titles: list[str]
) -> None:
    repository = reach(registry.at("tricks/app:1"))
    content = of_bytes(b"x")
    layers = tuple(content.described(pushing.FILE, {TITLE: title}) for title in titles)
    repository.push(content, layers[0], lambda _there: None)
    empty = of_bytes(b"{}").described(EMPTY)
    repository.push_empty(empty)
    manifest = Manifest(empty, layers, pushing.ARTIFACT)
    repository.put(manifest)
    repository.tag(manifest, "1")
    done = pull(registry.at("tricks/app:1"), home / "out")
    assert isinstance(done.exception, RaveError)
    assert done.exception.exit_code is ExitCode.VERIFICATION
    assert not (home / "out").exists()
    assert list(home.rglob("*escaped")) == list(home.glob(".pull-*")) == []


def test_what_no_job_left_is_refused(registry: RealRegistry, reach: Reach, home: Path) -> None:
    repository = reach(registry.at("other/app:1"))
    empty = of_bytes(b"{}").described(EMPTY)
    repository.push_empty(empty)
    manifest = Manifest(empty, (), "application/vnd.other")
    repository.put(manifest)
    repository.tag(manifest, "1")
    done = pull(registry.at("other/app:1"), home / "out")
    assert isinstance(done.exception, RaveError)
    assert "not what a job left" in done.exception.message
