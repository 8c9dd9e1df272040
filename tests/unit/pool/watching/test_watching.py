"""Whatever alerts and dashboard ask for there is: each figure, each label, each of its values."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import click
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from rave_cli import app
from rave_cli.commands.pool import pool
from rave_cli.pool import watching
from rave_cli.pool.jobs.store import JobStore
from rave_cli.pool.serving.metrics import PoolMetrics
from rave_cli.pool.watching.dashboard import PANELS, document

if TYPE_CHECKING:
    from pathlib import Path

# Prometheus' own: whether a scrape was answered; what it adds to each series.
ITS_OWN = {"up"}
ADDED = {"instance", "job", "le"}

WORDS = {
    "absent", "and", "by", "histogram_quantile", "increase", "max", "on", "or", "rate", "sum",
    "time", "unless", "without",
}  # fmt: skip
GROUPED = re.compile(r"\b(by|without|on) \(([^)]*)\)")


@pytest.fixture
def known(tmp_path: Path) -> dict[str, dict[str, set[str]]]:
    """Each series that a pool has, with its labels and their values."""
    with JobStore(tmp_path / "pool/jobs.sqlite") as store:
        text = PoolMetrics("demo").text(store)
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


def exprs() -> list[str]:
    rules = yaml.safe_load(watching.alerts())["groups"][0]["rules"]
    return [rule["expr"] for rule in rules] + [
        query.expr for panel in PANELS for query in panel.queries
    ]


def test_each_figure_and_label_that_is_asked_for_is_there(
    known: dict[str, dict[str, set[str]]],
) -> None:
    used: set[str] = set()
    for expr in exprs():
        grouped = {word.strip() for _, words in GROUPED.findall(expr) for word in words.split(",")}
        bare = GROUPED.sub("", expr)
        names: set[str] = set()
        for name, matchers in re.findall(r"\b([a-z_]+[a-z])\b(?:\{([^}]*)\})?", bare):
            if name in WORDS | ITS_OWN or f'"{name}"' in bare:
                continue
            if name not in known and any(f"{name}{sign}" in bare for sign in ("=", "!=", "=~")):
                continue
            assert name in known, (name, expr)
            names.add(name)
            for label, sign, value in re.findall(r'([a-z_]+)(=~|!=|=)"([^"]*)"', matchers):
                if label in ADDED:
                    continue
                assert label in known[name], (label, expr)
                if sign != "!=":
                    assert set(value.split("|")) <= known[name][label], (value, expr)
        labels = ADDED.union(*(known[name] for name in names))
        assert grouped - {""} <= labels, expr
        used |= names
    # None is there for nobody to look at.
    stems = {re.sub(r"_(bucket|sum|count)$", "", name) for name in known}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}
    assert stems - shown == set()


def test_each_alert_says_what_happened_and_what_helps_with_commands_that_there_are() -> None:
    (group,) = yaml.safe_load(watching.alerts())["groups"]
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert set(rule["annotations"]) == {"summary", "description"}
        told = " ".join(rule["annotations"].values())
        for verb in re.findall(r"rave pool ([a-z]+)", told):
            assert pool.get_command(click.Context(pool), verb), verb


def test_the_dashboard_is_laid_out_without_gaps_or_overlaps() -> None:
    found = document()
    cells = set()
    for panel in found["panels"]:
        place = panel["gridPos"]
        cells |= {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
    assert len(cells) == sum(p["gridPos"]["w"] * p["gridPos"]["h"] for p in found["panels"])
    ids = [panel["id"] for panel in found["panels"]]
    assert len(set(ids)) == len(ids) == len(PANELS)
    assert "${datasource}" in json.dumps(found)


def test_both_are_printed_as_they_are(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    def printed(*words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            app.main(["pool", "export", *words])
        assert ended.value.code == 0
        return capsys.readouterr().out

    assert printed("alerts") == watching.alerts()
    assert json.loads(printed("alerts", "--json")) == yaml.safe_load(watching.alerts())
    assert json.loads(printed("dashboard")) == document()
    assert json.loads(printed("dashboard", "--json")) == document()
