"""The catalog as values: what it promises, and how it refuses what it does not know."""

from __future__ import annotations

import json

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.profiles.catalog import Catalog, Plan, parse
from rave_cli.profiles.names import BAKED

BOARD = "vibe-kanban"


@pytest.fixture(scope="module", params=[(), (BOARD,)], ids=["as it is", "all accepted"])
def catalog(request: pytest.FixtureRequest) -> Catalog:
    return parse(BAKED.read_bytes()).accepting(request.param)


def test_every_profile_can_be_asked_for_on_every_base(catalog: Catalog) -> None:
    for name, profile in catalog.profiles.items():
        assert set(profile.bases) == {"nixos", "debian"}
        for base in profile.bases:
            plan = catalog.plan(name, base)
            assert set(plan.services) | set(plan.absent) == set(profile.services)
            assert not set(plan.services) & set(plan.absent)


def test_only_ssh_and_the_status_page_are_exposed(catalog: Catalog) -> None:
    for profile in catalog.profiles.values():
        for plan in profile.bases.values():
            assert {port.port for port in plan.exposed} == {22, 3002}


def test_the_status_page_s_port_is_the_plan_s(catalog: Catalog) -> None:
    plan = catalog.plan("production", "nixos")
    assert plan.status_port == 3002
    moved = [port.model_copy(update={"port": 8443}) for port in plan.exposed]
    assert plan.model_copy(update={"exposed": tuple(moved)}).status_port == 8443
    assert plan.model_copy(update={"exposed": ()}).status_port is None


def test_demo_lives_in_two_gibibytes(catalog: Catalog) -> None:
    resources = catalog.plan("demo", "debian").resources
    assert (resources.of("safe").memory_mib, resources.of("full").memory_mib) == (2048, 4096)


def test_the_caps_of_the_services_fit_the_machine(catalog: Catalog) -> None:
    for profile in catalog.profiles.values():
        for plan in profile.bases.values():
            caps = [service.memory for service in plan.services.values() if service.units]
            system = plan.facts.system_mib
            assert sum(cap.safe for cap in caps) + system <= plan.resources.safe.memory_mib
            assert sum(cap.full for cap in caps) + system <= plan.resources.full.memory_mib
            assert all(cap.safe <= cap.full for cap in caps)


def test_every_plan_carries_the_facts(catalog: Catalog) -> None:
    facts = [plan.facts for profile in catalog.profiles.values() for plan in profile.bases.values()]
    for found in facts:
        assert found.model_fields_set >= set(type(found).model_fields)
        assert (found.operator, found.nats.user, found.failed_logins) == ("rave", "rave", 3)
        assert (found.retention_days.safe, found.retention_days.full) == (3, 7)
        assert found.network.gateway == "10.0.2.2"
        assert found.system_mib >= 128


def test_a_plan_from_before_there_were_facts_is_still_read() -> None:
    document = json.loads(BAKED.read_bytes())["profiles"]["demo"]["bases"]["debian"]
    del document["facts"]
    for service in document["services"].values():
        del service["oomScore"]
        (service["scrape"] or {}).pop("honorLabels", None)
    plan = Plan.model_validate(document)
    assert plan.facts.retention_days.of("full") == 7
    assert plan.facts.failed_logins == 3


def test_every_secret_a_service_needs_is_in_the_plan(catalog: Catalog) -> None:
    for profile in catalog.profiles.values():
        for plan in profile.bases.values():
            needed = {name for service in plan.services.values() for name in service.secrets}
            needed |= {database.secret for database in plan.databases}
            assert needed == set(plan.secrets)
            for name, secret in plan.secrets.items():
                assert secret.path == f"/run/secrets/{name}"


def test_a_database_password_reaches_postgresql_first(catalog: Catalog) -> None:
    refresh = catalog.plan("demo", "nixos").secrets["grafana/db-password"].refresh
    assert refresh == ("postgres-set-grafana-password.service", "grafana.service")


def test_check_ids_carry_their_service_and_are_unique(catalog: Catalog) -> None:
    for profile in catalog.profiles.values():
        for plan in profile.bases.values():
            ids = [check.id for check in plan.checks]
            assert len(set(ids)) == len(ids)
            assert {id_.split(".")[0] for id_ in ids} <= set(plan.services)


def test_no_two_services_of_a_plan_share_a_port(catalog: Catalog) -> None:
    for profile in catalog.profiles.values():
        for plan in profile.bases.values():
            ports = [port.port for service in plan.services.values() for port in service.ports]
            assert len(set(ports)) == len(ports), plan.attr


@pytest.mark.parametrize(
    ("profile", "base", "said"),
    [("dmo", "debian", "no profile 'dmo'; did you mean demo?"),
     ("demo", "debain", "no base 'debain'; did you mean debian?"),
     ("../etc", "debian", "no profile '../etc'")],
)  # fmt: skip
def test_an_unknown_word_gets_a_guess(catalog: Catalog, profile: str, base: str, said: str) -> None:
    with pytest.raises(RaveError) as caught:
        catalog.plan(profile, base)
    assert said in caught.value.message
    assert caught.value.exit_code == ExitCode.USAGE


def test_a_catalog_of_another_shape_is_refused() -> None:
    document = json.loads(BAKED.read_bytes())
    document["profiles"]["demo"]["bases"]["debian"]["surprise"] = 1
    with pytest.raises(RaveError, match=r"profiles\.demo\.bases\.debian\.surprise"):
        parse(json.dumps(document))
    document = json.loads(BAKED.read_bytes()) | {"schemaVersion": 2}
    with pytest.raises(RaveError, match="schemaVersion"):
        parse(json.dumps(document))


def test_full_pipe_is_an_image_of_its_own_on_nixos(catalog: Catalog) -> None:
    assert catalog.plan("demo", "nixos").in_mode("full").attr == "demo-full"
    assert catalog.plan("demo", "nixos").in_mode("safe").attr == "demo"
    assert catalog.plan("demo", "debian").in_mode("full").attr == "demo-debian"


def test_what_asks_first_is_in_no_plan_until_it_is_accepted() -> None:
    given = parse(BAKED.read_bytes())
    asking = {name for name, service in given.services.items() if service.asks}
    assert asking == {BOARD}
    for profile in given.profiles.values():
        plan = profile.bases["debian"]
        assert not asking & set(plan.services)
        assert plan.accepted == ()
    assert given.asking(given.plan("development", "debian")) == {BOARD: given.services[BOARD].asks}
    assert given.asking(given.plan("demo", "debian")) == {}
    assert given.asking(given.plan("development", "nixos")) == {}


@pytest.mark.parametrize("profile", ["development", "production"])
def test_what_is_accepted_is_all_in_which_a_plan_differs(profile: str) -> None:
    given = parse(BAKED.read_bytes())
    before = given.plan(profile, "debian")
    taken = given.accepting([BOARD])
    after = taken.plan(profile, "debian")
    assert set(after.services) - set(before.services) == {BOARD}
    assert after.attr == f"{profile}-debian-with-{BOARD}"
    assert after.accepted == (BOARD,)
    assert taken.asking(after) == {}
    same = {"services", "absent", "attr", "qcow", "accepted"}
    assert before.model_dump(exclude=same) == after.model_dump(exclude=same)
    assert {name: after.services[name] for name in before.services} == before.services
    assert taken.plan(profile, "nixos") == given.plan(profile, "nixos")
    assert taken.plan("demo", "debian") == given.plan("demo", "debian")


@pytest.mark.parametrize(
    ("name", "said"),
    [("vibe", "names 'vibe', which is no service"),
     ("redis", "names 'redis', which needs no acceptance"), ("", "which is no service")],
)  # fmt: skip
def test_a_name_that_asks_nothing_is_not_accepted(name: str, said: str) -> None:
    with pytest.raises(RaveError, match=said) as caught:
        parse(BAKED.read_bytes()).accepting([BOARD, name])
    assert caught.value.exit_code == ExitCode.USAGE
    assert BOARD in str(caught.value.hint)


def test_nobody_can_accept_what_was_not_known_yet() -> None:
    document = json.loads(BAKED.read_bytes())
    for profile in document["profiles"].values():
        del profile["accepted"]
    for service in document["services"].values():
        del service["asks"]
    old = parse(json.dumps(document))
    assert old.accepting([]) == old
    with pytest.raises(RaveError, match="needs no acceptance"):
        old.accepting([BOARD])
