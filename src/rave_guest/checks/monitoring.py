"""Prometheus: its rules and alerts, and how long it keeps metrics."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from rave_guest.verdict import Verdict, failed, judge, warned
from rave_guest.wire import http

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rave_guest.system import System

_HOURS = {"h": 1, "d": 24, "w": 168, "y": 8760}


def prometheus_rules(ask: Mapping[str, Any], _system: System) -> Verdict:
    """Alert rules are loaded and healthy; no critical alert fires."""
    answer = http.get("http://127.0.0.1:9090/api/v1/rules", ask["timeout"])
    return judge_rules(json.loads(answer.body))


def judge_rules(document: Any) -> Verdict:
    """Read /api/v1/rules."""
    rules = [rule for group in document["data"]["groups"] for rule in group["rules"]]
    broken = [rule["name"] for rule in rules if rule.get("health") == "err"]
    firing = [rule["name"] for rule in rules if rule.get("state") == "firing"]
    if not rules:
        return failed("no rule is loaded")
    if broken:
        return failed(f"cannot be evaluated: {', '.join(broken)}")
    if firing:
        return warned(f"firing: {', '.join(firing)}", firing=firing)
    return judge([], f"{len(rules)} rules, none fires", rules=len(rules))


def prometheus_retention(ask: Mapping[str, Any], _system: System) -> Verdict:
    """Metrics are kept for the days that the mode promises."""
    answer = http.get("http://127.0.0.1:9090/api/v1/status/flags", ask["timeout"])
    return judge_retention(json.loads(answer.body)["data"], ask["days"])


def judge_retention(flags: Mapping[str, str], days: int) -> Verdict:
    """Read /api/v1/status/flags; Prometheus writes durations as 3d or 1w2d."""
    text = flags.get("storage.tsdb.retention.time", "0s")
    found = re.findall(r"(\d+)([hdwy])", text)
    hours = sum(int(amount) * _HOURS[unit] for amount, unit in found)
    problems = [f"{text} instead of {days} d"] if hours != 24 * days else []
    return judge(problems, f"{days} days")
