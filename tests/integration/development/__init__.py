"""What is tried with a development machine, which takes minutes to make: for who asks for it."""

from __future__ import annotations

import os

import pytest

ASKED_FOR = (
    pytest.mark.integration,
    pytest.mark.skipif(not os.environ.get("RAVE_DEVELOPMENT"), reason="RAVE_DEVELOPMENT: not set"),
)
