"""Lets a process yield the cores to others of its machine."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

# Linux groups processes by their session, and shares the cores between these groups first (sched(7), "The autogroup
# feature"). A nice value counts only inside a group, so alone it does nothing between two services.
_GROUP: Final = Path("/proc/self/autogroup")


def yield_cores(nice: int) -> None:
    """Makes this process yield to others by `nice`, from 0 to 19.

    Where it leads a session of its own, as a service does, its session yields, too. It leaves a session that it shares
    as it is: there, a shell or a worker would be slowed.
    """
    os.nice(nice)
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):  # no Linux, or a kernel that has no such groups
            _GROUP.write_text(str(nice))
