"""Networking from within: interfaces, routes, reachability, firewall, and that nothing gets out."""

from __future__ import annotations

import json
import os
import socket
import threading

from rave_guest import facts
from rave_guest.check import Subject, check
from rave_guest.system import read, run
from rave_guest.verdict import Verdict, failed, judge, skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from rave_guest.facts import Listener
    from rave_guest.system import System

# Ways out that answer on any host with an internet connection.
OUTSIDE_TCP = (("1.1.1.1", 443), ("1.1.1.1", 53), ("9.9.9.9", 443))
OUTSIDE_UDP = (("1.1.1.1", 53),)
# A DNS question for the address of example.com (RFC 1035).
DNS_QUESTION = bytes.fromhex("526101000001000000000000076578616d706c6503636f6d0000010001")


@check("networking.interfaces", phase="health", title="loopback and one network card are up")
def interfaces(_arguments: Mapping[str, Any], _system: System) -> Verdict:
    """Loopback and exactly one network card, which is up."""
    found = {}
    for name in sorted(os.listdir("/sys/class/net")):
        flags = int(read(f"/sys/class/net/{name}/flags").strip() or "0", 16)
        # IFF_UP
        found[name] = bool(flags & 1)
    return judge_interfaces(found)


def judge_interfaces(found: Mapping[str, bool]) -> Verdict:
    """Read interface names with whether they are up."""
    cards = [name for name in found if name != "lo"]
    problems = [f"{name} is down" for name, up in found.items() if not up]
    if "lo" not in found:
        problems.append("there is no loopback")
    if len(cards) != 1:
        problems.append(f"{len(cards)} network cards instead of one: {', '.join(cards)}")
    return judge(problems, f"lo and {', '.join(cards)} are up")


def tcp_ports(plan: Mapping[str, Any]) -> dict[str, int]:
    """Return the TCP ports of a plan's services by service and name."""
    return {
        f"{name}/{port['name']}": port["port"]
        for name, service in plan["services"].items()
        for port in service["ports"]
        if port["protocol"] == "tcp"
    }


def _network(about: Subject) -> dict[str, Any]:
    network = about.plan["facts"]["network"]
    return {"network": network["network"], "gateway": network["gateway"]}


@check("networking.routes", phase="health",
       title="no route leads beyond the machine's own network", arguments=_network)  # fmt: skip
def routes(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """The only ways out of the machine are its own network and its gateway."""
    return judge_routes(
        facts.routes(read("/proc/net/route")), arguments["network"], arguments["gateway"]
    )


def judge_routes(found: list[facts.Route], network: str, gateway: str) -> Verdict:
    """Compare with the network QEMU gives the guest, such as 10.0.2.0 and gateway 10.0.2.2."""
    problems = [
        f"a route to {route.destination} through {route.gateway}"
        for route in found
        if (route.destination, route.gateway) not in {(network, "0.0.0.0"), ("0.0.0.0", gateway)}  # noqa: S104 - the unset address
    ]
    if not any(route.destination == network for route in found):
        problems.append(f"no route to its own network {network}")
    return judge(problems, f"{len(found)} routes, none beyond {gateway}")


def _ports(about: Subject) -> dict[str, Any]:
    return {"ports": tcp_ports(about.plan)}


@check("networking.reachability", phase="health",
       title="every port of the catalog answers inside", timeout=5, retry_for=10,
       arguments=_ports)  # fmt: skip
def reachability(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """Every port of the catalog answers within the machine."""
    refused = []
    for name, port in sorted(arguments["ports"].items()):
        try:
            socket.create_connection(("127.0.0.1", port), arguments["timeout"]).close()
        except OSError as error:
            refused.append(f"{name} ({port}): {error.strerror or error}")
    return judge(refused, f"{len(arguments['ports'])} ports answer")


def _listening(about: Subject) -> dict[str, Any]:
    exposed = _exposed(about)["exposed"]
    internal = sorted(set(tcp_ports(about.plan).values()) - set(exposed))
    return {"exposed": exposed, "internal": internal}


@check("security.listeners", phase="security", title="what listens is what the catalog says",
       arguments=_listening)  # fmt: skip
def listeners(arguments: Mapping[str, Any], system: System) -> Verdict:
    """What listens is what the catalog says, and only exposed ports listen beyond loopback."""
    return judge_listeners(
        system.listeners(), set(arguments["exposed"]), set(arguments["internal"])
    )


def judge_listeners(found: list[Listener], exposed: set[int], internal: set[int]) -> Verdict:
    """Compare listening sockets with the catalog's exposed and internal ports."""
    outer = {item.port for item in found if item.protocol == "tcp" and not item.loopback}
    inner = {item.port for item in found if item.protocol == "tcp" and item.loopback}
    problems = [
        f"{item} is not exposed in the catalog"
        for item in found
        if not item.loopback and (item.protocol == "udp" or item.port not in exposed)
    ]
    problems += [f"nothing listens on the exposed port {p}" for p in sorted(exposed - outer)]
    missing = sorted(internal - inner - outer)
    problems += [f"nothing listens on port {port}" for port in missing]
    known = exposed | internal
    unknown = [str(item) for item in found if item.loopback and item.port not in known]
    problems += [f"{name} is not in the catalog" for name in unknown]
    return judge(
        problems, f"{len(outer)} exposed and {len(inner)} internal ports, as the catalog says",
        outer=sorted(outer), inner=sorted(inner),
    )  # fmt: skip


def _exposed(about: Subject) -> dict[str, Any]:
    return {"exposed": sorted(port["port"] for port in about.plan["exposed"])}


@check("networking.firewall", phase="health",
       title="the firewall drops by default, admits exposed ports",
       arguments=_exposed)  # fmt: skip
def firewall(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """Every input hook of nftables drops by default, and accepts only the exposed ports."""
    done = run(["nft", "-j", "list", "ruleset"], arguments["timeout"])
    if done.returncode != 0:
        return failed(f"nft: {done.stderr.strip()[:200]}")
    return judge_firewall(json.loads(done.stdout)["nftables"], set(arguments["exposed"]))


def judge_firewall(ruleset: list[dict[str, Any]], exposed: set[int]) -> Verdict:
    """Read nftables' JSON (libnftables-json(5))."""
    chains = [item["chain"] for item in ruleset if "chain" in item]
    inputs = [chain for chain in chains if chain.get("hook") == "input"]
    # A chain of fail2ban only ever drops; the one that decides is the one that drops by default.
    deciding = [chain for chain in inputs if chain.get("policy") == "drop"]
    if not deciding:
        return failed("no input chain drops by default")
    admitted: set[int] = set()
    names = {(chain["family"], chain["table"], chain["name"]) for chain in chains}
    for rule in (item["rule"] for item in ruleset if "rule" in item):
        if (rule["family"], rule["table"], rule["chain"]) in names and _accepts(rule["expr"]):
            admitted |= facts.nft_ports(rule["expr"])
    problems = [f"port {port} is admitted" for port in sorted(admitted - exposed)]
    problems += [f"port {port} is not admitted" for port in sorted(exposed - admitted)]
    drops = ", ".join(f"{c['family']} {c['table']} {c['name']}" for c in deciding)
    return judge(
        problems, f"{drops} drops by default, admits {sorted(admitted)}", admitted=sorted(admitted)
    )


def _accepts(expressions: list[dict[str, Any]]) -> bool:
    return any("accept" in expression for expression in expressions)


def _ways_out(about: Subject) -> dict[str, Any]:
    network = about.plan["facts"]["network"]
    return {
        "network": about.network,
        "patience": 2,
        "tcp": [*OUTSIDE_TCP, (network["gateway"], 22), *about.decoys],
        "udp": [(network["nameServer"], 53), *OUTSIDE_UDP],
    }


@check("networking.isolation", phase="health",
       title="the guest tries to reach out, and cannot", timeout=10,
       arguments=_ways_out)  # fmt: skip
def isolation(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """Really try to reach out: addresses of the internet, name servers, and listeners that the
    host holds open for this run. All must fail.
    """
    if arguments["network"] != "isolated":
        return skipped(f"the machine's network is {arguments['network']}: it may reach out")
    tried = {**{f"tcp {h}:{p}": _tcp(h, p) for h, p in arguments["tcp"]},
             **{f"udp {h}:{p}": _dns(h, p) for h, p in arguments["udp"]}}  # fmt: skip
    return judge_isolation(_try_all(tried, arguments["patience"]))


def judge_isolation(reached: Mapping[str, bool]) -> Verdict:
    """Read what was tried, with whether anything answered."""
    problems = [f"{name} answered" for name, answered in sorted(reached.items()) if answered]
    if not reached:
        return failed("nothing was tried")
    return judge(problems, f"tried {len(reached)} ways out, none answered", tried=sorted(reached))


def _try_all(tries: Mapping[str, Callable[[float], bool]], patience: float) -> dict[str, bool]:
    reached = dict.fromkeys(tries, False)

    def attempt(name: str) -> None:
        try:
            reached[name] = tries[name](patience)
        except OSError:
            reached[name] = False

    threads = [threading.Thread(target=attempt, args=(name,), daemon=True) for name in tries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience + 1)
    return reached


def _tcp(host: str, port: int) -> Callable[[float], bool]:
    def attempt(patience: float) -> bool:
        socket.create_connection((host, port), patience).close()
        return True

    return attempt


def _dns(host: str, port: int) -> Callable[[float], bool]:
    def attempt(patience: float) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            plain.settimeout(patience)
            plain.connect((host, port))
            plain.send(DNS_QUESTION)
            return bool(plain.recv(512))

    return attempt
