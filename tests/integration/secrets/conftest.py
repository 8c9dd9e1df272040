"""A home with an age identity, a policy and a secrets file, made by the real sops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from rave_cli.secrets import edit, identity, policy, store, validate
from rave_cli.secrets.init import init
from tests.sops import CATALOG

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rave_cli.secrets.draft import KeptDraft
    from rave_cli.secrets.identity import Keys


def never(what: object) -> bool:
    raise AssertionError(f"nothing was to be asked, but: {what}")


@dataclass(frozen=True)
class Operator:
    """An operator: the secrets file, and the key that opens it."""

    file: Path
    keys: Keys

    def values(self) -> dict[str, str]:
        """Return the decrypted values."""
        return dict(store.open_values(self.file.read_bytes(), self.keys).values)

    def codes(self, *, keyed: bool = True) -> set[str]:
        """Return the codes that `validate` finds."""
        report = validate.validate(self.file, CATALOG, self.keys if keyed else None)
        return {finding.code for finding in report.findings}

    def edit(
        self,
        editor: Callable[[Path], None],
        *,
        again: Callable[[str], bool] = never,
        resume: Callable[[KeptDraft], bool] = never,
    ) -> bool:
        """Edit the file; unless told otherwise, nothing may be asked."""
        return edit.edit(self.file, CATALOG, self.keys, editor=editor, again=again, resume=resume)

    def seal(self, values: dict[str, str]) -> None:
        """Write other values, as a valid new version."""
        allowed = policy.load(self.file)
        store.replace(self.file, store.seal(values, allowed, self.keys), allowed, new=())


@pytest.fixture
def operator(home: Path) -> Operator:
    file = home / "place/secrets.sops.yaml"
    init(file, CATALOG)
    return Operator(file, identity.load())
