"""Where keys are looked for, against the real sops: what opens a file for it opens it for us."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from rave_cli import age
from rave_cli.secrets import identity, sops
from tests.unit.secrets.test_identity import PLACES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.integration


def opened_by_sops(file: Path) -> bool:
    """Whether sops itself, with the environment of its caller, decrypts the file."""
    argv = [str(sops.locate().path), "--config", "/dev/null", "decrypt", str(file)]
    done = subprocess.run(argv, capture_output=True, check=False, env=os.environ)
    return done.returncode == 0


def opened_by_us(file: Path) -> bool:
    keys = identity.find()
    if keys is None:
        return False
    result = sops.try_decrypt(file.read_bytes(), keys.text, output="json")
    return not isinstance(result, sops.Fault)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("put", PLACES)
def test_every_place_of_sops_is_one_of_ours(
    home: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[..., None], hidden: bool
) -> None:
    """`hidden`: all the other places hold other identities."""
    pair, file = age.generate(), home / "secrets.yaml"
    file.write_bytes(sops.encrypt(b'{"a": "b"}', [pair.recipient], source="json"))
    assert not opened_by_sops(file)
    assert not opened_by_us(file)
    if hidden:
        for other in PLACES:
            if other is not put:
                other(monkeypatch, home, age.generate().file_text().decode())
    put(monkeypatch, home, pair.file_text().decode())
    assert opened_by_sops(file)
    assert opened_by_us(file)
