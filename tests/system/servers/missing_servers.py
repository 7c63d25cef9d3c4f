"""Decides what a test does when a server that it needs is not on this machine. Tests import it; it tests nothing."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

REQUIRED = ("PATHCAST_REQUIRE_KAFKA", "PATHCAST_REQUIRE_REDIS")  # set in CI, where a skipped test would prove nothing


def skip_unless_required(reason: object) -> NoReturn:
    """Skip the test with this reason, or fail it where one of the variables REQUIRED is set."""
    if any(os.environ.get(name) for name in REQUIRED):
        pytest.fail(str(reason), pytrace=False)
    pytest.skip(str(reason))
