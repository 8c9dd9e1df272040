"""The control file of PostgreSQL 15 without chance."""

from __future__ import annotations

import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.debian import BASE, part

if TYPE_CHECKING:
    from pathlib import Path

pgcontrol = part("postgresql", "pgcontrol.py")


def control(identifier: int, nonce: bytes) -> bytes:
    data = bytearray(8192)
    struct.pack_into("<QI", data, 0, identifier, pgcontrol.VERSION)
    data[pgcontrol.NONCE_AT : pgcontrol.CRC_AT] = nonce
    struct.pack_into("<I", data, pgcontrol.CRC_AT, pgcontrol.crc32c(bytes(data[:288])))
    return bytes(data)


def test_crc32c_check_value() -> None:
    # The published check value of CRC-32C (iSCSI).
    assert pgcontrol.crc32c(b"123456789") == 0xE3069283


@given(st.integers(0, 2**64 - 1), st.binary(min_size=32, max_size=32))
def test_two_clusters_become_one(identifier: int, nonce: bytes) -> None:
    fixed = pgcontrol.fixed(control(identifier, nonce))
    assert fixed == pgcontrol.fixed(control(1, bytes(32)))
    assert pgcontrol.fixed(fixed) == fixed


def test_everything_else_stays() -> None:
    before = control(7, bytes(32))
    after = pgcontrol.fixed(before)
    assert after[8 : pgcontrol.NONCE_AT] == before[8 : pgcontrol.NONCE_AT]
    assert after[pgcontrol.CRC_AT + 4 :] == before[pgcontrol.CRC_AT + 4 :]


@pytest.mark.parametrize("at", [8, 20, 288])
def test_another_layout_or_a_broken_file_is_refused(at: int) -> None:
    data = bytearray(control(7, bytes(32)))
    data[at] ^= 1
    with pytest.raises(pgcontrol.UnknownLayoutError):
        pgcontrol.fixed(bytes(data))


def test_the_program_mends_the_file_in_place(tmp_path: Path) -> None:
    place = tmp_path / "pg_control"
    place.write_bytes(control(7, bytes(32)))
    program = BASE / "services/postgresql/pgcontrol.py"
    subprocess.run([sys.executable, "-I", program, place], check=True)
    assert place.read_bytes() == pgcontrol.fixed(control(7, bytes(32)))
