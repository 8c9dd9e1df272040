"""Prometheus: scrapes every service of the plan that has metrics, judges the alert rules."""

from __future__ import annotations

import json
from typing import Any


def files(plan: dict[str, Any]) -> dict[str, str]:
    """Its configuration and the rules. JSON is YAML."""
    rules = {"groups": [{"name": "rave", "rules": plan["facts"]["alerts"]}]}
    return {
        "etc/rave/prometheus/prometheus.yml": text(configuration(plan)),
        "etc/rave/prometheus/rules.yml": text(rules),
    }


def configuration(plan: dict[str, Any]) -> dict[str, Any]:
    """What is scraped, and where alerts go."""
    services = plan["services"]
    document: dict[str, Any] = {
        "global": plan["facts"]["prometheus"]["global"],
        "rule_files": ["/etc/rave/prometheus/rules.yml"],
        "scrape_configs": [
            found
            for name, service in sorted(services.items())
            if service["scrape"]
            for found in jobs(name, service["scrape"])
        ],
    }
    if "alertmanager" in services:
        port = services["alertmanager"]["scrape"]["port"]
        targets = [{"targets": [f"127.0.0.1:{port}"]}]
        document["alerting"] = {"alertmanagers": [{"static_configs": targets}]}
    return document


def jobs(name: str, scrape: dict[str, Any]) -> list[dict[str, Any]]:
    """The jobs of one service: its own, and of what it has asked more often."""
    often = scrape.get("often")
    more = [job(often["job"], scrape | often)] if often else []
    return [job(name, scrape), *more]


def job(name: str, scrape: dict[str, Any]) -> dict[str, Any]:
    """How one service is scraped."""
    own = {"scrape_interval": scrape["interval"]} if "interval" in scrape else {}
    return own | {
        "job_name": name,
        "metrics_path": scrape["path"],
        "honor_labels": scrape.get("honorLabels", False),
        "static_configs": [
            {
                "targets": [
                    f"127.0.0.1:{port}" for port in (scrape["port"], *scrape.get("also", ()))
                ],
                "labels": {"service": name},
            }
        ],
    }


def text(document: dict[str, Any]) -> str:
    """A document as JSON for people."""
    return json.dumps(document, indent=2, sort_keys=True) + "\n"
