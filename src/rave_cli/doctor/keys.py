"""Examinations of keys and secrets."""

from __future__ import annotations

import shlex

from rave_cli import settings
from rave_cli.doctor.examination import Diagnosis, examination
from rave_cli.errors import RaveError
from rave_cli.profiles.source import load_catalog
from rave_cli.secrets import identity as identities
from rave_cli.secrets import listing, overlap, store
from rave_cli.secrets import sops as tool
from rave_cli.transcript import signing as signatures

# How many secrets that are due are named.
SHOWN = 3


@examination("sops", "is there a sops that keeps what it seals?")
def sops() -> Diagnosis:
    """Run sops and compare its version with those that have a known fault."""
    report = tool.report()
    detail = f"sops {report.version} from {report.tool.origin} ({report.tool.path})"
    facts = {"version": report.version, "path": str(report.tool.path)}
    if report.warnings:
        return Diagnosis("warn", "; ".join((detail, *report.warnings)), facts=facts)
    return Diagnosis("ok", detail, facts=facts)


@examination("identity", "is there an age key that opens secrets?")
def identity() -> Diagnosis:
    """Read the age identities where sops looks for them."""
    try:
        keys = identities.find()
    except RaveError as error:
        hint = error.hint or ""
        fix = tuple(shlex.split(hint)) if hint.startswith("chmod ") else ()
        return Diagnosis("fail", error.message, fix, advice="" if fix else hint)
    if keys is None:
        place = identities.key_file()
        return Diagnosis("skip", f"no age identity at {place} yet", advice="rave secrets init")
    return Diagnosis("ok", f"age identity: {keys.tried}")


@examination("secrets", "does that key open what this profile needs?")
def secrets() -> Diagnosis:
    """Open the secrets file with the operator's keys, in memory, and look for each secret of the
    profile that the settings name.
    """
    file = store.default_file()
    if not file.exists():
        return Diagnosis("skip", f"no secrets file {file} yet", advice="rave secrets init")
    keys = identities.find()
    if keys is None:
        return Diagnosis(
            "fail", f"there is {file}, and no age key to open it",
            advice=f"put the key that it was sealed for at {identities.key_file()}",
        )  # fmt: skip
    opened = store.open_values(store.read(file), keys)
    found = settings.load()
    profile, base = found.text("RAVE_PROFILE"), found.text("RAVE_BASE")
    needed = load_catalog(None).plan(profile, base).secrets
    missing = sorted(set(needed) - set(opened.values))
    if missing:
        return Diagnosis(
            "fail", f"{file} opens, and has no {', '.join(missing)} for {profile} on {base}",
            advice="rave secrets init   (adds what is missing)",
        )  # fmt: skip
    all_there = f"the key opens all {len(needed)} secrets of {profile} on {base}"
    if doubled := overlap.doubled(opened.values, needed):
        forget = f"rave secrets rotate {' '.join(doubled)} --forget-previous"
        return Diagnosis(
            "warn", f"{all_there}; of {', '.join(doubled)} the value before counts, too",
            advice=f"once their senders have the new one: {forget}",
        )  # fmt: skip
    return Diagnosis("ok", all_there)


@examination("secrets-age", "has every secret a value of this quarter?")
def secrets_age() -> Diagnosis:
    """Compare since when each secret has its value with a quarter of a year (92 days)."""
    file = store.default_file()
    if not file.exists():
        return Diagnosis("skip", f"no secrets file {file} yet", advice="rave secrets init")
    late = listing.due(file, load_catalog(None).secrets)
    if not late:
        return Diagnosis("ok", "no secret is older than a quarter of a year", facts={"due": []})
    more = f" and {len(late) - SHOWN} more" if len(late) > SHOWN else ""
    return Diagnosis(
        "warn", f"older than a quarter of a year: {', '.join(late[:SHOWN])}{more}",
        advice="rave secrets rotate --due; then rave secrets install NAME for each machine",
        facts={"due": list(late)},
    )  # fmt: skip


@examination("signing", "is there a key to sign transcripts with?")
def signing() -> Diagnosis:
    """Read the signing key; others must not."""
    place = signatures.default_path()
    if not place.exists():
        return Diagnosis("skip", f"no signing key at {place} yet: rave smoke run makes it")
    signatures.load(place)
    return Diagnosis("ok", f"signing key at {place}")
