"""What forges send, as their documentation shows it, and how they sign it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

from rave_cli.pool.jobs.rows import work_text
from rave_cli.pool.jobs.work import Work
from rave_cli.pool.sources.source import ForgeSource
from rave_platform.domain.signatures import WebhookRequest

if TYPE_CHECKING:
    from rave_cli.pool.sources.source import Forge

ZERO = "0" * 40
REPOSITORY = "team/app"

# Of hooks and of the API: no secret of anybody.
SECRET, OLD_SECRET, TOKEN = "s" * 32, "o" * 32, "t0ken"
SIGNING = "whsec_" + base64.b64encode(b"k" * 32).decode()


def commit(number: int) -> str:
    """Return a commit."""
    return hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()


def source(forge: Forge = "github", name: str = "app", **other: Any) -> ForgeSource:
    """Return a source that builds pushes, merge requests and tags."""
    work = other.pop("work", Work(("./ci.sh",), secrets=("deploy/key",)))
    known: dict[str, Any] = {
        "url": "https://forge.example.org", "repository": REPOSITORY,
        "on": ("push", "merge-request", "tag"), "refs": (), "secrets": ("hook",), "token": "",
        "every": 300.0, "forks": False, "dispatcher": "", "sender": "", "clone": "", "link": "",
        "asked": work_text(work),
    }  # fmt: skip
    return ForgeSource(name=name, forge=forge, **known | other)


def push(forge: Forge, sha: str, ref: str = "refs/heads/main", **other: Any) -> dict[str, Any]:
    """Return the payload of a push of a branch or tag."""
    if forge == "pagure":
        message = {
            "branch": ref.removeprefix("refs/heads/"), "end_commit": sha, "start_commit": sha,
            "agent": "ada", "repo": {"fullname": REPOSITORY}, **other,
        }  # fmt: skip
        return {"topic": "git.receive", "msg_id": f"2026-{sha[:8]}", "msg": message}
    payload: dict[str, Any] = {"ref": ref, "before": ZERO, "after": sha}
    if forge == "gitlab":
        tag = ref.startswith("refs/tags/")
        payload |= {
            "object_kind": "tag_push" if tag else "push", "checkout_sha": sha,
            "project": {"path_with_namespace": REPOSITORY}, "user_username": "ada",
        }  # fmt: skip
    else:
        payload |= {"repository": {"full_name": REPOSITORY}, "head_commit": {"id": sha}}
    return payload | other


def request(
    forge: Forge, sha: str, number: int = 7, *, fork: bool = False, target: str = "main"
) -> dict[str, Any]:
    """Return the payload of a merge request that was opened."""
    theirs = "mallory/app" if fork else REPOSITORY
    if forge == "gitlab":
        about = {
            "iid": number, "action": "open", "last_commit": {"id": sha}, "source_branch": "page",
            "target_branch": target, "target_project_id": 1, "source_project_id": 2 if fork else 1,
        }  # fmt: skip
        return {
            "object_kind": "merge_request", "project": {"path_with_namespace": REPOSITORY},
            "object_attributes": about,
        }  # fmt: skip
    if forge == "pagure":
        pull = {
            "id": number, "commit_stop": sha, "branch": target, "branch_from": "page",
            "project": {"fullname": REPOSITORY}, "repo_from": {"fullname": theirs},
        }  # fmt: skip
        message = {"pullrequest": pull, "agent": "ada"}
        return {"topic": "pull-request.new", "msg_id": f"2026-{number}-{sha[:8]}", "msg": message}
    pull = {
        "number": number, "title": "Add a page", "head": {"ref": "page", "sha": sha,
        "repo": {"full_name": theirs}}, "base": {"ref": target, "repo": {"full_name": REPOSITORY}},
    }  # fmt: skip
    return {
        "action": "opened", "number": number, "pull_request": pull,
        "repository": {"full_name": REPOSITORY},
    }  # fmt: skip


def hook(
    forge: Forge, payload: dict[str, Any] | bytes, secret: str = SECRET, name: str = "d-1"
) -> WebhookRequest:
    """Return a hook as a forge sends it, signed with a secret."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return WebhookRequest(headers(forge, body, secret, name), body)


def headers(forge: Forge, body: bytes, secret: str = SECRET, name: str = "d-1") -> dict[str, str]:
    """Return the headers with which a forge sends a body."""
    said = "pull_request" if b'"pull_request"' in body else "push"
    mac = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    if forge == "github":
        return {
            "x-hub-signature-256": f"sha256={mac}", "x-github-event": said,
            "x-github-delivery": name,
        }  # fmt: skip
    if forge in ("gitea", "forgejo"):
        return {f"x-{forge}-signature": mac, f"x-{forge}-event": said, f"x-{forge}-delivery": name}
    if forge == "pagure":
        return {"x-pagure-signature-256": mac}
    # GitLab sends these two with every delivery, signed or not.
    known = {"webhook-id": name, "webhook-timestamp": f"{time.time():.0f}"}
    if not secret.startswith("whsec_"):
        return known | {"x-gitlab-token": secret, "idempotency-key": name}
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{name}.{known['webhook-timestamp']}.".encode() + body
    digest = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return known | {"webhook-signature": f"v1,{digest}"}
