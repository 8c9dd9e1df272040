"""Prometheus: its targets, its rules and alerts, and how long it keeps metrics."""

from __future__ import annotations

import json
import re

from rave_guest import plan as plans
from rave_guest.check import Subject, check
from rave_guest.verdict import Verdict, failed, judge, warned
from rave_guest.wire import http

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from rave_guest.system import System

UNITS = ("prometheus.units",)
QUERY = "query?query=up"
_HOURS = {"h": 1, "d": 24, "w": 168, "y": 8760}


def _api(about: Subject, path: str) -> str:
    port = plans.port_of(about.plan, "prometheus", "web")
    return f"http://127.0.0.1:{port}/api/v1/{path}"


def _targets(about: Subject) -> dict[str, Any]:
    records = [s["scrape"] for s in about.plan["services"].values() if s["scrape"]]
    often = [record["often"] for record in records if record.get("often")]
    own = [record["port"] for record in [*records, *often]]
    also = [port for record in records for port in record.get("also") or ()]
    scraped = sorted([*own, *also])
    return {"url": _api(about, QUERY), "expected": scraped}


# One that was down at its last scrape is asked again within a minute; a busy one, while something
# is built or somebody signs in beside it under emulation, answers late for as long as that takes.
@check("prometheus.targets", phase="health", title="Prometheus reaches every target", needs=UNITS,
       retry_for=240, arguments=_targets)  # fmt: skip
def targets(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """Ask which targets are up; all that the catalog scrapes must be there and up."""
    # Guests of the first release are told this query, and tell no more than it does.
    url = arguments["url"].removesuffix(QUERY) + "targets?state=active"
    answer = http.get(url, arguments["timeout"])
    if answer.status != 200:
        return failed(f"status {answer.status}")

    def answers(url: str) -> bool:
        return http.get(url, arguments["timeout"]).status == 200

    return judge_targets(json.loads(answer.body), arguments["expected"], answers)


def judge_targets(document: Any, expected: list[int], answers: Callable[[str], bool]) -> Verdict:
    """Read /api/v1/targets.

    Args:
        document: the answer.
        expected: ports that must be scraped.
        answers: whether a target that Prometheus has yet to ask for the first time, which takes up
            to its interval, gives metrics now.
    """
    found = {}
    for target in document["data"]["activeTargets"]:
        up = target["health"] == "up"
        if target["health"] == "unknown":
            up = answers(target["scrapeUrl"])
        found[target["labels"]["instance"]] = up
    ports = {int(name.rpartition(":")[2]) for name in found if name.rpartition(":")[2].isdigit()}
    problems = [f"{name} is down" for name, up in sorted(found.items()) if not up]
    problems += [f"no target on port {port}" for port in sorted(set(expected) - ports)]
    if not found:
        problems = ["Prometheus has no target"]
    return judge(problems, f"{len(found)} targets up", targets=found)


def _rules(about: Subject) -> dict[str, Any]:
    return {"url": _api(about, "rules")}


# On a busy host an evaluation may run out of time; the next one tells whether it was that.
@check("prometheus.rules", phase="health", title="Prometheus: alert rules are loaded, none fires",
       needs=UNITS, retry_for=25, arguments=_rules)  # fmt: skip
def rules(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """Alert rules are loaded and healthy; no critical alert fires."""
    answer = http.get(arguments["url"], arguments["timeout"])
    return judge_rules(json.loads(answer.body))


def judge_rules(document: Any) -> Verdict:
    """Read /api/v1/rules."""
    rules = [rule for group in document["data"]["groups"] for rule in group["rules"]]
    broken = [
        f"{rule['name']} ({rule.get('lastError') or 'no reason given'})"
        for rule in rules
        if rule.get("health") == "err"
    ]
    firing = [rule["name"] for rule in rules if rule.get("state") == "firing"]
    if not rules:
        return failed("no rule is loaded")
    if broken:
        return failed(f"cannot be evaluated: {', '.join(broken)}")
    if firing:
        return warned(f"firing: {', '.join(firing)}", firing=firing)
    return judge([], f"{len(rules)} rules, none fires", rules=len(rules))


def _retention(about: Subject) -> dict[str, Any]:
    days = about.plan["facts"]["retentionDays"][about.mode]
    return {"url": _api(about, "status/flags"), "days": days}


@check("prometheus.retention", phase="health", title="Prometheus: keeps metrics for {days} days",
       needs=UNITS, arguments=_retention)  # fmt: skip
def retention(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """Metrics are kept for the days that the mode promises."""
    answer = http.get(arguments["url"], arguments["timeout"])
    return judge_retention(json.loads(answer.body)["data"], arguments["days"])


def judge_retention(flags: Mapping[str, str], days: int) -> Verdict:
    """Read /api/v1/status/flags; Prometheus writes durations as 3d or 1w2d."""
    text = flags.get("storage.tsdb.retention.time", "0s")
    found = re.findall(r"(\d+)([hdwy])", text)
    hours = sum(int(amount) * _HOURS[unit] for amount, unit in found)
    problems = [f"{text} instead of {days} d"] if hours != 24 * days else []
    return judge(problems, f"{days} days")
