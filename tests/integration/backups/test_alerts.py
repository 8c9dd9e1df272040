"""What the guest's Prometheus says of backups, judged by its own tool."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.debian import rendered

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool on this host"),
]
RULES = "etc/rave/prometheus/rules.yml"
WEEKS = 9 * 86400


def fires(name: str, minute: int, *, given: bool) -> dict[str, Any]:
    """An alert of that name alone is looked for."""
    rules = json.loads(rendered()[RULES])["groups"]
    (rule,) = [one for group in rules for one in group["rules"] if one.get("alert") == name]
    told = {"exp_labels": rule["labels"], "exp_annotations": rule["annotations"]}
    return {
        "eval_time": f"{minute}m", "alertname": name, "exp_alerts": [told] if given else [],
    }  # fmt: skip


def test_they_come_when_the_host_falls_silent_and_where_no_test_was_well(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(rendered()[RULES])
    # The next is late after an hour; the last restore test is nine days old then.
    watched = {"rave_backup_due_seconds": 3600, "rave_backup_restored_seconds": 3600 - WEEKS}
    names = ("BackupLate", "BackupUnproven")
    cases = (
        (watched, [(name, minute, minute > 60) for name in names for minute in (59, 65)]),
        # A machine that is backed up by hand.
        ({"rave_backup_at_seconds": 60}, [(name, 600, False) for name in names]),
    )
    tests = [
        {
            "interval": "1m",
            "input_series": [
                {"series": name, "values": f"{value}x700"} for name, value in series.items()
            ],
            "alert_rule_test": [fires(name, minute, given=good) for name, minute, good in looks],
        }
        for series, looks in cases
    ]
    case = {"rule_files": ["rules.yml"], "evaluation_interval": "10s", "tests": tests}
    (tmp_path / "test.yml").write_text(json.dumps(case))
    done = subprocess.run(
        ["promtool", "test", "rules", "test.yml"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
