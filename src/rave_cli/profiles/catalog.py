"""The catalog as frozen values: profiles, and for each base the plan of what it carries."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Collection

    from rave_cli.profiles.names import Mode

SCHEMA_VERSION = 1

T = TypeVar("T")


def _alias(name: str) -> str:
    """Return the Nix spelling of a field: camelCase with units as they are written (MiB, GiB)."""
    return to_camel(name).replace("Mib", "MiB").replace("Gib", "GiB")


class CatalogRecord(BaseModel):
    """A frozen record of the catalog; unknown fields are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=_alias, populate_by_name=True
    )


class Resources(CatalogRecord):
    """What a machine of a profile gets: memory in MiB, disk in GiB."""

    memory_mib: Annotated[int, Field(ge=128)]
    cpus: Annotated[int, Field(ge=1)]
    disk_gib: Annotated[int, Field(ge=1)]


class ByMode(CatalogRecord, Generic[T]):
    """One value for each mode."""

    safe: T
    full: T

    def of(self, mode: Mode) -> T:
        """Return the value that applies in `mode`."""
        return self.safe if mode == "safe" else self.full


class Port(CatalogRecord):
    """A port a service listens on; the firewall admits only the exposed ones."""

    name: str
    port: Annotated[int, Field(ge=1, le=65535)]
    protocol: Literal["tcp", "udp"]
    exposed: bool


class HealthCheck(CatalogRecord):
    """A health question as data. `timeout` in seconds; `matches` is a regular expression."""

    id: str
    title: str
    kind: Literal["http", "tcp", "command", "prometheus-targets"]
    from_: Annotated[Literal["guest", "host"], Field(alias="from")] = "guest"
    timeout: float
    url: str | None = None
    status: int = 200
    contains: str | None = None
    port: int | None = None
    argv: tuple[str, ...] = ()
    matches: str | None = None
    user: str | None = None
    environment_secret: dict[str, str] = {}
    bases: tuple[str, ...] | None = None


class ScrapedOften(CatalogRecord):
    """Another port that Prometheus asks as a job of that name, by which alerts go."""

    job: str
    port: int
    interval: str


class Scrape(CatalogRecord):
    """Where Prometheus finds a service's metrics, whether their own labels win, and the time
    between two looks: a duration of Prometheus', or None for that of all. `also`: ports of its
    other units.
    """

    port: int
    path: str
    also: tuple[int, ...] = ()
    honor_labels: bool = False
    interval: str | None = None
    often: ScrapedOften | None = None


class OidcClient(CatalogRecord):
    """What a service needs of whoever provides `oidc`: its id, paths below its site to which people
    come back, scopes, and the name of the secret by which it proves to be itself; `logout`, if it
    has one: where it is told within the machine that somebody's sessions have ended.
    """

    id: str
    redirects: tuple[str, ...]
    scopes: tuple[str, ...]
    secret: str
    logout: str | None = None


class KeptState(CatalogRecord):
    """What a service keeps: its directory, and the services before which it is copied."""

    path: str
    before: tuple[str, ...] = ()


class Service(CatalogRecord):
    """A service as one base carries it."""

    title: str
    description: str
    units: tuple[str, ...]
    ports: tuple[Port, ...]
    checks: tuple[HealthCheck, ...]
    secrets: tuple[str, ...]
    scrape: Scrape | None
    memory: ByMode[int]
    oom_score: int = 0
    timer_slack_ms: int = 0
    provides: tuple[str, ...] = ()
    deadline_seconds: Annotated[int, Field(ge=1)] = 15
    waits: bool = False
    stage: Literal["core", "platform"] = "core"
    drawn_at_start: str | None = None
    site: str | None = None
    oidc_client: OidcClient | None = None
    state: KeptState | None = None
    not_kept: str | None = None


class Secret(CatalogRecord):
    """A secret of the catalog; in a plan `refresh` names the units to restart after a change.

    `proof` is the service that proves that it took it; plans of the first release do not tell.
    `lasting` is why it is not renewed for its age; no plan tells.
    """

    description: str
    owner: str
    mode: str
    generate: dict[str, Any]
    refresh: tuple[str, ...]
    proof: str | None = None
    path: str | None = None
    lasting: str | None = None

    @property
    def given(self) -> bool:
        """Whether it is what its operator writes: no new value can be made."""
        return self.generate.get("kind") == "settings"

    @property
    def several(self) -> bool:
        """Whether the value before may count, too, on a line of its own."""
        return bool(self.generate.get("several", False))


class Database(CatalogRecord):
    """A PostgreSQL role, its database if it owns one, and the unit that sets its password.

    `service` is whose it is; plans from before do not tell.
    """

    role: str
    name: str | None
    secret: str
    unit: str
    service: str | None = None


class Network(CatalogRecord):
    """The guest's network, which QEMU gives it (-netdev user)."""

    network: str = "10.0.2.0"
    prefix: int = 24
    address: str = "10.0.2.15"
    gateway: str = "10.0.2.2"
    name_server: str = "10.0.2.3"


class OpenRecord(CatalogRecord):
    """A record of which this code reads a part; the bases render the rest."""

    model_config = ConfigDict(extra="allow")


class NatsFacts(OpenRecord):
    """What is agreed on NATS: the user whose password is `nats/password`."""

    user: str = "rave"


class Facts(OpenRecord):
    """What both bases agree on (infra/catalog/facts).

    The defaults are what guests had whose plans do not tell, for there were no facts yet. They stay
    as they are: what is true today comes from the catalog.

    Args:
        operator: the account that logs in and becomes root.
        network: the guest's network.
        failed_logins: after so many fail2ban bans an address.
        ban_seconds: for so long.
        retention_days: days that Prometheus keeps metrics, by mode.
        system_mib: what the services' caps leave to the system, MiB.
        nats: NATS' user.
    """

    operator: str = "rave"
    network: Network = Network()
    failed_logins: Annotated[int, Field(ge=1)] = 3
    ban_seconds: Annotated[int, Field(ge=1)] = 60
    retention_days: ByMode[int] = ByMode(safe=3, full=7)
    system_mib: Annotated[int, Field(ge=0)] = 0
    nats: NatsFacts = NatsFacts()


class KnownException(CatalogRecord):
    """Where a check may find what it looks for, and why nothing better can be done.

    Args:
        service: whose it is.
        check: id of the check.
        secrets: the secrets that it may find there.
        place: a part of the file's path, or of the control group of the process.
        reason: for the operator.
    """

    service: str
    check: str
    secrets: tuple[str, ...]
    place: str
    reason: str


class Plan(CatalogRecord):
    """What one base makes of one profile. `accepted`: what of it is there because the operator has
    accepted it by name, in the order of the alphabet.
    """

    profile: str
    base: str
    attr: str
    qcow: str
    services: dict[str, Service]
    absent: tuple[str, ...]
    secrets: dict[str, Secret]
    databases: tuple[Database, ...]
    exposed: tuple[Port, ...]
    resources: ByMode[Resources]
    facts: Facts = Facts()
    exceptions: tuple[KnownException, ...] = ()
    accepted: tuple[str, ...] = ()

    def in_mode(self, mode: Mode) -> Plan:
        """Return the plan whose `attr` is the flake's package for a mode.

        On NixOS units and caps are part of the image, so FULL_PIPE is a package of its own; on
        Debian the mode is a kernel argument of the same image.
        """
        if self.base == "nixos" and mode == "full":
            return self.model_copy(update={"attr": f"{self.attr}-full"})
        return self

    @property
    def status_port(self) -> int | None:
        """The guest's port of the status page, if the plan exposes one."""
        found = [port.port for port in self.exposed if port.name == "status"]
        return found[0] if found else None

    def provides(self, contract: str) -> bool:
        """Return whether a service of the plan fulfils a contract, such as `oidc`."""
        return any(contract in service.provides for service in self.services.values())

    @property
    def oidc_clients(self) -> dict[str, OidcClient]:
        """The clients of the provider of `oidc` among the services, by their ids."""
        found = [service.oidc_client for service in self.services.values()]
        return {client.id: client for client in found if client is not None}

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """Every health question of the services this base carries."""
        return tuple(check for service in self.services.values() for check in service.checks)


class Profile(CatalogRecord):
    """A profile: what it is for, its services, and one plan per base. `accepted`: for each choice
    of what the operator may accept in which the plan of the Debian base differs then; of its
    services those that it has more. Few ask for that, so it is read when one does.
    """

    description: str
    services: tuple[str, ...]
    features: tuple[str, ...]
    resources: ByMode[Resources]
    bases: dict[str, Plan]
    accepted: tuple[dict[str, Any], ...] = ()

    def accepting(self, ids: Collection[str]) -> Profile:
        """Return the profile with what of these it asks about."""
        asks = {one for document in self.accepted for one in document["accepted"]}
        for document in self.accepted:
            if set(document["accepted"]) == asks & set(ids):
                whole = self.bases["debian"].model_dump(by_alias=True, mode="json")
                services = {**whole["services"], **document["services"]}
                plan = Plan.model_validate({**whole, **document, "services": services})
                return self.model_copy(update={"bases": {**self.bases, "debian": plan}})
        return self


class ServiceSummary(CatalogRecord):
    """A service of the catalog, the bases that carry it, and what is excepted on each. `asks`: why
    it is in no image of the Debian base until the operator accepts it, if it is so.
    """

    title: str
    description: str
    bases: tuple[str, ...]
    asks: str | None = None
    exceptions: dict[str, tuple[KnownException, ...]] = {}


class Catalog(CatalogRecord):
    """`profileMetadata`: the one table of profiles, services and secrets."""

    schema_version: Literal[1]
    profiles: dict[str, Profile]
    services: dict[str, ServiceSummary]
    secrets: dict[str, Secret]

    def profile(self, name: str) -> Profile:
        """Return a profile.

        Raises:
            RaveError: USAGE if there is none of that name.
        """
        if name not in self.profiles:
            raise _unknown("profile", name, list(self.profiles))
        return self.profiles[name]

    def accepting(self, ids: Collection[str]) -> Catalog:
        """Return the catalog of an operator who has accepted these services (RAVE_ACCEPTED).

        Raises:
            RaveError: USAGE if one is none, or needs no acceptance.
        """
        asking = {name: one for name, one in self.services.items() if one.asks is not None}
        for name in ids:
            if name not in asking:
                raise _not_asking(name, known=name in self.services, asking=list(asking))
        profiles = {name: profile.accepting(ids) for name, profile in self.profiles.items()}
        return self.model_copy(update={"profiles": profiles}) if ids else self

    def asking(self, plan: Plan) -> dict[str, str]:
        """Return what a plan lacks until the operator accepts it, and why."""
        if plan.base != "debian":
            return {}
        reasons = {name: self.services[name].asks for name in plan.absent}
        return {name: why for name, why in reasons.items() if why is not None}

    def plan(self, profile: str, base: str) -> Plan:
        """Return what `base` makes of `profile`.

        Raises:
            RaveError: USAGE if there is no such profile or base.
        """
        bases = self.profile(profile).bases
        if base not in bases:
            raise _unknown("base", base, list(bases))
        return bases[base]


def parse(data: bytes | str) -> Catalog:
    """Read a catalog from its JSON text.

    Raises:
        RaveError: HOST if the text is not a catalog this version of rave understands.
    """
    try:
        return Catalog.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise RaveError(
            f"the flake's profileMetadata does not fit this rave: {place}: {first['msg']}",
            hint="use the rave of the same checkout as the flake, or update both",
            exit_code=ExitCode.HOST,
        ) from error


def _unknown(kind: str, name: str, known: list[str]) -> RaveError:
    close = get_close_matches(name, known, n=1)
    guess = f"; did you mean {close[0]}?" if close else ""
    return RaveError(
        f"there is no {kind} {name!r}{guess}",
        hint=f"rave vm list-profiles   (known: {', '.join(sorted(known))})",
        exit_code=ExitCode.USAGE,
    )


def _not_asking(name: str, *, known: bool, asking: list[str]) -> RaveError:
    what = "needs no acceptance" if known else "is no service"
    return RaveError(
        f"RAVE_ACCEPTED names {name!r}, which {what}",
        hint=f"rave config   (it may name: {', '.join(sorted(asking))})",
        exit_code=ExitCode.USAGE,
    )
