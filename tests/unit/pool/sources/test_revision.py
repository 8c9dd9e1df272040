"""What a forge tells of becomes a revision, whatever stands in it: data, and nothing that runs."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.pool.jobs.work import Work
from rave_cli.pool.sources.hooks import PROVIDERS
from rave_cli.pool.sources.making import work_for
from rave_cli.pool.sources.revision import COMMIT, Revision, is_name, repository, told
from rave_cli.pool.sources.source import FORGES, Forge
from rave_platform.domain import normalisation
from rave_platform.domain.events import Provider

from .forges import REPOSITORY, ZERO, commit, push, request, source


def heard(forge: Forge, payload: dict[str, Any], named: str = "") -> Revision | None:
    header = named or ("pull_request" if "pull_request" in payload else "push")
    said = normalisation.facts(PROVIDERS[forge], {"x-github-event": header}, payload)
    assert repository(PROVIDERS[forge], said, payload) == REPOSITORY
    return told(PROVIDERS[forge], said, payload)


@pytest.mark.parametrize("forge", FORGES)
def test_a_push_a_tag_and_a_merge_request_are_revisions(forge: Forge) -> None:
    sha = commit(1)
    assert heard(forge, push(forge, sha)) == Revision("push", "main", sha)
    assert heard(forge, push(forge, sha, "refs/tags/v1")) == Revision("tag", "v1", sha)
    ours = Revision("merge-request", "7", sha, "main")
    assert heard(forge, request(forge, sha)) == ours
    theirs = heard(forge, request(forge, sha, fork=True))
    assert theirs == Revision("merge-request", "7", sha, "main", fork=True)


@pytest.mark.parametrize("forge", ["gitlab", "github", "gitea"])
def test_of_an_annotated_tag_the_commit_is_built(forge: Forge) -> None:
    payload = push(forge, commit(1), "refs/tags/v1") | {"after": commit(2)}
    assert heard(forge, payload) == Revision("tag", "v1", commit(1))


@pytest.mark.parametrize("forge", ["gitlab", "github", "gitea"])
def test_a_branch_that_is_deleted_is_none(forge: Forge) -> None:
    payload = push(forge, ZERO) | {"checkout_sha": None, "head_commit": None, "before": commit(1)}
    assert heard(forge, payload) is None


@pytest.mark.parametrize("forge", ["github", "gitlab", "pagure"])
def test_a_merge_request_that_does_not_say_whose_it_is_is_a_forks(forge: Forge) -> None:
    payload = request(forge, commit(1))
    if forge == "github":
        payload["pull_request"]["head"]["repo"] = None
    elif forge == "gitlab":
        del payload["object_attributes"]["source_project_id"]
    else:
        payload["msg"]["pullrequest"]["repo_from"] = None
    found = heard(forge, payload)
    assert found is not None
    assert found.fork


def test_the_event_of_an_unsigned_header_cannot_make_a_merge_request_a_push() -> None:
    payload = request("github", commit(1), fork=True) | {"after": commit(1), "before": commit(2)}
    assert heard("github", payload, "push") is None


@pytest.mark.parametrize(
    "name",
    [
        "", "-rf", "--upload-pack=touch /tmp/x", "a..b", "a b", "a~1", "a^", "a:b", "a?", "a*",
        "[a", "a\\b", "/a", "a/", "a//b", "a.lock", ".a", "a/.b", "a@{1}", "@", "a.", "a" * 256,
        "a\nb", "a\x1bb", "a\u202eb",
    ],
)  # fmt: skip
def test_what_git_would_not_call_a_branch_is_none(name: str) -> None:
    assert not is_name(name)
    found = heard("github", push("github", commit(1), f"refs/heads/{name}"))
    assert found is None or (found.name != name and is_name(found.name))


@pytest.mark.parametrize(
    "name", ["main", "feature/x", "v1.2.3", "$(id)", "`id`", "a;b", "ü", "a'b"]
)
def test_what_git_would_call_a_branch_is_data(name: str) -> None:
    checked = subprocess.run(["git", "check-ref-format", f"refs/heads/{name}"], check=False)
    assert checked.returncode == 0
    found = heard("github", push("github", commit(1), f"refs/heads/{name}"))
    assert found == Revision("push", name, commit(1))
    work = work_for(source(), found, None)
    assert work.command == ("./ci.sh",)
    assert ("FORGE_NAME", name) in work.environment


words = st.text() | st.sampled_from(
    [ZERO, commit(1), "refs/heads/main", "refs/tags/v1", REPOSITORY]
)
leaves = st.none() | st.booleans() | st.integers() | words
NAMES = [
    "ref", "after", "before", "checkout_sha", "head_commit", "id", "object_kind", "number", "iid",
    "object_attributes", "pull_request", "head", "base", "repo", "sha", "full_name", "project",
    "path_with_namespace", "repository", "topic", "msg", "branch", "end_commit", "pullrequest",
    "action", "fullname", "last_commit", "target_branch", "commit_stop", "repo_from",
]  # fmt: skip
names = st.sampled_from(NAMES)
trees = st.recursive(
    leaves, lambda inner: st.dictionaries(names, inner, max_size=6) | st.lists(inner, max_size=2),
    max_leaves=20,
)  # fmt: skip
payloads = st.dictionaries(names, trees, max_size=8)


@given(st.sampled_from(list(Provider)), st.sampled_from(["push", "pull_request"]), payloads)
def test_whatever_a_payload_holds_a_revision_is_one_that_git_knows(
    provider: Provider, named: str, payload: dict[str, Any]
) -> None:
    said = normalisation.facts(provider, {"x-github-event": named}, payload)
    repository(provider, said, payload)
    found = told(provider, said, payload)
    if found is not None:
        assert COMMIT.fullmatch(found.commit)
        assert found.name.isdecimal() or is_name(found.name)
        work_for(source(), found, None)


@given(st.sampled_from(FORGES), st.text(), st.text())
def test_whatever_a_branch_is_called_the_job_runs_what_its_source_says(
    forge: Forge, name: str, title: str
) -> None:
    payload = request(forge, commit(1), target=name)
    if "pull_request" in payload:
        payload["pull_request"] |= {"title": title}
    for found in (
        heard(forge, push(forge, commit(1), f"refs/heads/{name}")),
        heard(forge, payload),
    ):
        if found is not None:
            work = work_for(source(forge), found, None)
            assert (work.command, work.script) == (("./ci.sh",), "")
            assert all(name.startswith("FORGE_") for name, _ in work.environment)


def test_the_commit_of_a_fork_reads_no_secret_and_poisons_no_cache() -> None:
    ours = work_for(source(), Revision("merge-request", "7", commit(1), "main"), None)
    theirs = work_for(source(), Revision("merge-request", "7", commit(1), "main", fork=True), None)
    assert (ours.secrets, theirs.secrets) == (("deploy/key",), ())
    assert (ours.keeps_cache, theirs.keeps_cache) == (True, False)


def test_the_commit_of_a_fork_reaches_nothing() -> None:
    work = Work(("./ci.sh",), allow=("mirror.example.org:443",))
    for fork, reached in ((False, work.allow), (True, ())):
        told = Revision("merge-request", "7", commit(1), "main", fork=fork)
        assert work_for(source(work=work), told, None).allow == reached


def test_a_forge_cannot_say_what_the_operator_says() -> None:
    work = Work(("./ci.sh",), environment=(("FORGE_NAME", "mine"), ("LEVEL", "2")))
    found = work_for(source(work=work), Revision("push", "main", commit(1)), None)
    assert dict(found.environment)["FORGE_NAME"] == "main"
    assert dict(found.environment)["LEVEL"] == "2"
    assert len(dict(found.environment)) == len(found.environment)
