"""`yield_cores`, in processes of their own: one that leads a session, and one that shares it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

GROUP = Path("/proc/self/autogroup")
PROGRAM = """
import os
from stream.config.priority import yield_cores
yield_cores(7)
group = open("/proc/self/autogroup").read().split()[-1] if os.path.exists("/proc/self/autogroup") else "none"
print(os.nice(0), group)
"""


def ran(*, own_session: bool) -> list[str]:
    command = [sys.executable, "-c", PROGRAM]
    if not own_session:  # a leader that keeps its session, and a child that shares it
        command = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:], check=True)", *command]
    done = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=True)
    return done.stdout.split()


@pytest.mark.parametrize(("own_session", "group"), [(True, "7"), (False, "0")], ids=["leads it", "shares it"])
def test_a_service_yields_with_its_whole_session_if_that_is_its_own(own_session: bool, group: str) -> None:
    if not GROUP.exists():
        pytest.skip("this kernel groups no processes by their session")
    assert ran(own_session=own_session) == ["7", group]
