"""The smoke suite's conversation, against the real Synapse and the real Canaille of their sets."""

from __future__ import annotations

import re
import zlib
from contextlib import closing
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest

from rave_guest import chat
from rave_guest.services import canaille as keeper
from rave_guest.services import matrix as service
from rave_guest.system import System
from rave_guest.wire.matrix import Matrix, MatrixError
from tests import postgres, sets
from tests.debian import plan
from tests.integration.accounts import synapse as synapses
from tests.integration.accounts.conftest import ORIGIN, forwarded
from tests.integration.accounts.test_accounts import Operator, ask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.integration.accounts.conftest import Canaille
    from tests.integration.accounts.synapse import Synapse

__all__ = ["ask"]

pytestmark = [pytest.mark.integration, *postgres.NEEDED]

HEADERS = {name: value for name, value in forwarded().items() if name.endswith(("For", "Proto"))}


@pytest.fixture(scope="module")
def synapse(
    tmp_path_factory: pytest.TempPathFactory, database: postgres.Server, canaille: Canaille
) -> Iterator[Synapse]:
    wheels = tmp_path_factory.mktemp("sets") / "matrix"
    sets.fill("matrix", wheels)
    place = tmp_path_factory.mktemp("synapse")
    with synapses.running(wheels, place, database, canaille.port) as found:
        yield found


def conversation(
    synapse: Synapse, canaille: Canaille, provider: str = "oidc-canaille"
) -> chat.Chat:
    def connect(site: str) -> HTTPConnection:
        port = synapse.port if site == synapses.SITE else canaille.port
        return HTTPConnection("127.0.0.1", port, timeout=30)

    def accounts(action: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return keeper.accounts(action, arguments, str(canaille.control))

    return chat.Chat(
        synapses.SITE, ORIGIN.replace("//", "//auth."), accounts,
        provider=provider, connect=connect, headers=HEADERS,
    )  # fmt: skip


def test_who_is_disabled_is_signed_out_everywhere_at_once(
    synapse: Synapse, canaille: Canaille, ask: Operator
) -> None:
    talk = conversation(synapse, canaille)
    with closing(talk.one), closing(talk.two):
        chat.sign_in(talk)
        assert ask("disable", chat.USERS[0])["untold"] == ["portal"]
        with pytest.raises(MatrixError, match="M_UNKNOWN_TOKEN"):
            talk.one.ask("GET", "/account/whoami")
        assert talk.two.ask("GET", "/account/whoami")["user_id"] == talk.two.user
        assert ask("reset-password", chat.USERS[1])["untold"] == ["portal"]
        with pytest.raises(MatrixError, match="M_UNKNOWN_TOKEN"):
            talk.two.ask("GET", "/account/whoami")


@pytest.mark.parametrize("time", ["first", "second"])
def test_two_people_sign_in_and_write_to_each_other_as_often_as_they_are_asked_to(
    synapse: Synapse, canaille: Canaille, ask: Operator, time: str
) -> None:
    verdicts = chat.converse(conversation(synapse, canaille))
    assert {name: found for name, found in verdicts.items() if found.status != "pass"} == {}, time
    assert verdicts["message"].data["seconds"] < 10
    assert ask("list")["users"] == []


def test_the_largest_picture_of_which_small_copies_are_made_leaves_it_within_its_cap(
    synapse: Synapse, canaille: Canaille
) -> None:
    talk = conversation(synapse, canaille)
    try:
        with closing(talk.one), closing(talk.two):
            chat.sign_in(talk)
            talk.one.exchange("POST", "/_matrix/media/v3/upload", picture(4096, 3071), "image/png")
    finally:
        for user in chat.USERS:
            talk.accounts("delete", {"user": user})
    (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", synapse.status, re.MULTILINE)
    assert int(peak) >> 10 < plan("development")["services"]["matrix"]["memory"]["safe"] * 0.9
    assert len(list((synapse.place / "media/local_thumbnails").rglob("*image-png*"))) > 1


def picture(width: int, height: int) -> bytes:
    """Return a PNG of one colour with transparency (PNG specification, 5.3, 11.2)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return len(data).to_bytes(4, "big") + checked + zlib.crc32(checked).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 6, 0, 0, 0])
    rows = zlib.compress(bytes(height * (1 + 4 * width)), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_nothing_secret_is_said(synapse: Synapse) -> None:
    secrets = [
        path.read_text() for path in (synapse.place / "secrets").rglob("*") if path.is_file()
    ]
    assert len(secrets) == 5
    assert [
        word for text in secrets for word in text.split() if len(word) > 8 and word in synapse.log
    ] == []


def test_where_nobody_signs_people_in_the_rest_has_no_ground(
    synapse: Synapse, canaille: Canaille
) -> None:
    there = conversation(synapse, canaille, provider="oidc-nobody")
    found = {name: verdict.status for name, verdict in chat.converse(there).items()}
    assert found.pop("flows") == "fail"
    assert set(found.values()) == {"skip"}


def test_its_own_questions_are_answered(synapse: Synapse) -> None:
    arguments = {"port": synapse.port, "timeout": 20.0}
    for asks in (service.database, service.federation):
        assert asks(arguments, System()).status == "pass"


def test_health_questions_and_metrics_are_where_the_record_has_them(synapse: Synapse) -> None:
    record = plan("development")["services"]["matrix"]
    for check in record["checks"]:
        path = re.sub(r"^http://127\.0\.0\.1:8008", "", check["url"])
        assert check["contains"] in get(synapse.port, path)
    metrics = get(synapse.metrics, record["scrape"]["path"])
    (alert,) = [
        rule for rule in plan("development")["facts"]["alerts"] if "synapse_" in rule["expr"]
    ]
    (name,) = re.findall(r"\bsynapse_\w+", alert["expr"])
    assert re.search(rf"^{name}\{{.*code=", metrics, re.MULTILINE), name


def get(port: int, path: str) -> str:
    """Return a page of this machine."""
    client = Matrix("localhost", lambda: HTTPConnection("127.0.0.1", port, timeout=30))
    with closing(client):
        return client.exchange("GET", path).decode()
