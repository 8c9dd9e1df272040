"""Follows docs/how-to/add-a-check.md in a copy of the code, touching nothing but what it names."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/how-to/add-a-check.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)

SUITE = """
import json
from rave_cli.profiles.source import load_catalog
from rave_cli.smoke.suite import suite
plan = load_catalog(None).plan("demo", "debian")
port = {"name": "web", "port": 3030, "protocol": "tcp", "exposed": False}
redis = plan.services["redis"].model_dump(mode="json", by_alias=True)
record = {"title": "Wiki", "units": ["wiki.service"], "ports": [port], "checks": []}
wiki = type(plan.services["redis"]).model_validate(redis | record)
plan = plan.model_copy(update={"services": {**plan.services, "wiki": wiki}})
print(json.dumps({c.id: [c.title, c.kind, dict(c.arguments), c.step] for c in suite(plan)}))
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in ("rave_cli", "rave_guest"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "src" / package, tmp_path / package, ignore=ignored)
    return tmp_path


def run(copy: Path, *words: str, stdin: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-B", *words], input=stdin, capture_output=True, text=True, check=False,
        timeout=60, cwd=copy, env={"PYTHONPATH": str(copy), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_check_inside_the_guest_is_one_file(copy: Path) -> None:
    (copy / "rave_guest/services/wiki.py").write_text(BLOCKS[0])
    found = json.loads(run(copy, "-c", SUITE))
    assert found["wiki.pages"] == [
        "Wiki: has at least 1 page",
        "services.wiki.pages",
        {"url": "http://127.0.0.1:3030/api/pages", "least": 1},
        "inside",
    ]
    judged = run(copy, "-c", "from rave_guest.services import wiki; print(wiki.judge_pages([], 1))")
    assert "0 pages" in judged


def test_a_check_on_the_host_is_one_function(copy: Path) -> None:
    with (copy / "rave_cli/smoke/onhost.py").open("a") as module:
        module.write("\n\n" + BLOCKS[1])
    found = json.loads(run(copy, "-c", SUITE))
    assert found["image.name"] == [
        "the image has the name of its plan", "rave_cli.smoke.onhost.name", {}, "start",
    ]  # fmt: skip


def test_a_verb_is_one_function_and_one_line(copy: Path) -> None:
    place = copy / "rave_guest/door.py"
    text = place.read_text().replace("VERBS: dict", f"{BLOCKS[2]}\n\nVERBS: dict")
    entry = '    "clock": _clock,\n'
    place.write_text(text.replace('    "probe": _probe,\n', f'    "probe": _probe,\n{entry}'))
    request = json.dumps({"v": 2, "verb": "clock", "arguments": {"now": 0}})
    answer = json.loads(
        run(copy, "-c", "import sys; from rave_guest import door; door.main([])", stdin=request)
    )
    assert answer["ok"]
    assert answer["answer"]["ahead"] > 1e9


def test_the_page_has_an_example_of_each() -> None:
    assert len(BLOCKS) == 3
