"""The formats in which transcripts were ever written; each is verified by the rules of its time.

The first is that of rave 0.1.0, whose documents named no machine and said of each check that it was
asked in the guest, tried once and found no data. Its signatures, its chain and its verdicts hold.
Since the second, the document and the event log must agree in everything that both say. The third
says which packages the image holds, and whom its build trusted for them.

The schema stands in the bytes that are signed, so nobody without the key can make a transcript pass
for one of an older format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

Types = type | tuple[type, ...]


@dataclass(frozen=True)
class TranscriptFormat:
    """A format of the document and of the event log that goes with it.

    Args:
        version: counts the formats, from 1.
        document: the schema that a document of it names.
        events: the schema that its event log names.
        members: the document's members and their JSON types, in the order in which they stand.
        image: the members of its `image`, in order.
    """

    version: int
    document: str
    events: str
    members: Mapping[str, Types]
    image: tuple[str, ...]


FIRST = TranscriptFormat(
    version=1,
    document="rave-transcript@v1",
    events="rave-events@v1",
    members={
        "schema": str,
        "test_session_id": str,
        "rave_version": str,
        "start_time": str,
        "completion_time": str,
        "duration_seconds": (int, float),
        "overall_status": str,
        "profile": str,
        "base": str,
        "mode": str,
        "nonce": str,
        "guest_boot_id": (str, type(None)),
        "system_info": dict,
        "test_summary": dict,
        "validation_results": list,
        "service_health": dict,
        "authentication_tests": dict,
        "agent_control_tests": dict,
        "sandbox_tests": dict,
        "performance_metrics": dict,
        "security_validation": dict,
        "tools": dict,
        "configuration": dict,
        "image": (dict, type(None)),
        "events": dict,
        "redactions": int,
        "abort_reason": (str, type(None)),
        "signer": str,
        "image_digest": (str, type(None)),
        "signature": str,
    },
    image=("name", "sha256", "sha256_after", "store_path", "nar_hash"),
)


def _with(members: Mapping[str, Types], new: str, *, behind: str) -> dict[str, Types]:
    """Return the members with an object of the name `new` behind another one."""
    found: dict[str, Types] = {}
    for name, kind in members.items():
        found[name] = kind
        if name == behind:
            found[new] = dict
    return found


SECOND = TranscriptFormat(
    version=2,
    document="rave-transcript@v2",
    events="rave-events@v2",
    members=_with(FIRST.members, "machine", behind="mode"),
    image=("name", "sha256", "sha256_after", "sha256_built", "store_path", "nar_hash"),
)
CURRENT = TranscriptFormat(
    version=3,
    document="rave-transcript@v3",
    events="rave-events@v3",
    members=_with(SECOND.members, "packages", behind="image"),
    image=SECOND.image,
)
FORMATS = (FIRST, SECOND, CURRENT)
BY_DOCUMENT = {known.document: known for known in FORMATS}
BY_EVENTS = {known.events: known for known in FORMATS}
