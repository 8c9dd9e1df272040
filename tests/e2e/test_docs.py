"""Every command of the documentation, run as it stands there, on a running demo machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.docs import PAGES, ROOT, Block, blocks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

RUNNABLE = [page for page in PAGES if any(block.reason is None for block in blocks(page))]
UNRUN = [block for page in PAGES for block in blocks(page) if block.reason is not None]


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page(site: Site, demo: str, page: Path) -> None:
    """Run a page's blocks in one shell, from top to bottom; the first failing command fails it."""
    script = "\n".join(block.script for block in blocks(page) if block.reason is None)
    path = f"{site.checkout}/.venv/bin:{site.env['PATH']}"
    site.run(["env", f"PATH={path}", "bash", "-euxo", "pipefail", "-c", script], timeout=500)


@pytest.mark.parametrize(
    "block", UNRUN, ids=lambda block: f"{block.page.relative_to(ROOT)}-{block.script.split()[0]}"
)
def test_a_block_that_is_not_run_says_why(block: Block) -> None:
    pytest.skip(f"not run: {block.reason}")
