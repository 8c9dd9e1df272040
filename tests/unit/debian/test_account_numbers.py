"""The numbers of the accounts that services of the guest get: who owns what is on a data disk."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

DEBIAN = Path(__file__).resolve().parents[3] / "infra/debian"


def test_no_two_accounts_have_one_number() -> None:
    scripts = [DEBIAN / "configure", *sorted((DEBIAN / "services").glob("*/configure"))]
    numbers = Counter(
        number for script in scripts for number in re.findall(r"--uid (\d+)", script.read_text())
    )
    assert len(numbers) > 5
    assert [number for number, times in numbers.items() if times > 1] == []
