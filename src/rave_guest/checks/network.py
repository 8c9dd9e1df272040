"""Networking from within: interfaces, routes, reachability, firewall, and that nothing gets out."""

from __future__ import annotations

import json
import os
import socket
import threading
from typing import TYPE_CHECKING, Any

from rave_guest import facts
from rave_guest.system import read, run
from rave_guest.verdict import Verdict, failed, judge, skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rave_guest.facts import Listener
    from rave_guest.system import System

# A DNS question for the address of example.com (RFC 1035).
DNS_QUESTION = bytes.fromhex("526101000001000000000000076578616d706c6503636f6d0000010001")


def interfaces(_ask: Mapping[str, Any], _system: System) -> Verdict:
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


def routes(ask: Mapping[str, Any], _system: System) -> Verdict:
    """The only ways out of the machine are its own network and its gateway."""
    return judge_routes(facts.routes(read("/proc/net/route")), ask["network"], ask["gateway"])


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


def reachability(ask: Mapping[str, Any], _system: System) -> Verdict:
    """Every port of the catalog answers within the machine."""
    refused = []
    for name, port in sorted(ask["ports"].items()):
        try:
            socket.create_connection(("127.0.0.1", port), ask["timeout"]).close()
        except OSError as error:
            refused.append(f"{name} ({port}): {error.strerror or error}")
    return judge(refused, f"{len(ask['ports'])} ports answer")


def listeners(ask: Mapping[str, Any], system: System) -> Verdict:
    """What listens is what the catalog says, and only exposed ports listen beyond loopback."""
    return judge_listeners(system.listeners(), set(ask["exposed"]), set(ask["internal"]))


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


def firewall(ask: Mapping[str, Any], _system: System) -> Verdict:
    """Every input hook of nftables drops by default, and accepts only the exposed ports."""
    done = run(["nft", "-j", "list", "ruleset"], ask["timeout"])
    if done.returncode != 0:
        return failed(f"nft: {done.stderr.strip()[:200]}")
    return judge_firewall(json.loads(done.stdout)["nftables"], set(ask["exposed"]))


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


def isolation(ask: Mapping[str, Any], _system: System) -> Verdict:
    """Really try to reach out: addresses of the internet, name servers, and listeners that the
    host holds open for this run. All must fail.
    """
    if ask["network"] != "isolated":
        return skipped(f"the machine's network is {ask['network']}: it may reach out")
    tried = {**{f"tcp {h}:{p}": _tcp(h, p) for h, p in ask["tcp"]},
             **{f"udp {h}:{p}": _dns(h, p) for h, p in ask["udp"]}}  # fmt: skip
    return judge_isolation(_try_all(tried, ask["patience"]))


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
