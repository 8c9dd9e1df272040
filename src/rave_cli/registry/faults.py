"""What a registry may answer, and what to do then. Its own words are shown, cleaned and cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.registry.manifest import parse_json
from rave_cli.text import cell

if TYPE_CHECKING:
    import httpx

    from rave_cli.registry.reference import Reference

# Characters of its words.
LONGEST = 200


def silent(reference: Reference, why: str) -> RaveError:
    """Return the fault of a registry that does not answer."""
    return RaveError(
        f"the registry {reference.registry} does not answer: {cell(why)[:LONGEST]}",
        hint="is it up, with TLS (one of this host's may do without: --plain-http), and does the"
        " environment name the right proxy (HTTPS_PROXY, NO_PROXY)? What it has is not sent again",
        exit_code=ExitCode.NOT_READY,
    )


def distrusted(reference: Reference, why: str) -> RaveError:
    """Return the fault of a certificate that is not trusted."""
    return RaveError(
        f"the certificate of {reference.registry} is not trusted: {cell(why)[:LONGEST]}",
        hint="--ca FILE, in PEM, of whoever issued it",
        exit_code=ExitCode.VERIFICATION,
    )


def strange(reference: Reference, why: str) -> RaveError:
    """Return the fault of an answer that no registry gives."""
    return RaveError(
        f"{reference.registry} answers as no registry does: {cell(why)[:LONGEST]}",
        hint="is that its address? oci://REGISTRY[:PORT]/REPOSITORY",
        exit_code=ExitCode.VERIFICATION,
    )


def other_digest(reference: Reference, wanted: str, found: str) -> RaveError:
    """Return the fault of a registry that has something else than what was asked of it."""
    return RaveError(
        f"{reference.registry} has {cell(found)[:80]} where it should have {wanted}",
        hint="do not rely on what that registry has",
        exit_code=ExitCode.VERIFICATION,
    )


def refused(reference: Reference, answer: httpx.Response, said: bytes) -> RaveError:
    """Return the fault of an answer that refuses.

    Args:
        reference: what was asked for.
        answer: its status is what counts.
        said: the beginning of its content.
    """
    status, words = answer.status_code, _words(said)
    told = f": {words}" if words else ""
    if status == 401:
        return RaveError(
            f"{reference.registry} wants other credentials for {reference.repository}{told}",
            hint="docker login; or --auth-file FILE, --auth-secret NAME, --auth-stdin",
            exit_code=ExitCode.SECRETS,
        )
    if status == 403:
        return RaveError(
            f"{reference.registry} does not allow that for {reference.repository}{told}",
            hint="have it allowed there, or show other credentials: --auth-secret NAME",
            exit_code=ExitCode.SECRETS,
        )
    if status == 404:
        return RaveError(
            f"{reference.registry} has no {reference}{told}",
            hint="compare the name with what the push said; some registries want the repository"
            " made first, and some say this to whoever may not see it",
            exit_code=ExitCode.USAGE,
        )
    wait = answer.headers.get("retry-after", "")
    later = f"try again in {cell(wait)[:40]} s" if wait.isdecimal() else "try again later"
    if status == 413:
        return RaveError(
            f"{reference.registry}, or a proxy before it, takes no request of that size{told}",
            hint="let it take 32 MiB at once; nginx: client_max_body_size 0",
            exit_code=ExitCode.NOT_READY,
        )
    if status == 429 or status >= 500:
        return RaveError(
            f"{reference.registry} answers {status}{told}",
            hint=f"{later}; what it has already is not sent again",
            exit_code=ExitCode.NOT_READY,
        )
    return strange(reference, f"{status}{told}")


def _words(said: bytes) -> str:
    """Return what a registry's errors say (distribution spec 1.1, "Error Codes")."""
    try:
        document = parse_json(said, "")
    except RaveError:
        return ""
    match document:
        case {"errors": [{"code": str(code), **rest}, *_]}:
            parts = [code, str(rest.get("message") or ""), str(rest.get("detail") or "")]
            return cell(": ".join(part for part in parts if part))[:LONGEST]
    return ""
