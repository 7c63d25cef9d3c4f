"""A Redis for the tests: Debian's `redis-server` if it is there, else the embedded Valkey.

PATHCAST_REQUIRE_REDIS=1 refuses the second.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stream.up import embedded


@contextmanager
def running(say: Callable[[str], None]) -> Iterator[str]:
    """Its URL. Raises RuntimeError if there is none of the demanded kind."""
    binary = shutil.which("redis-server")
    if binary is not None:
        told = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
        with embedded.redis_server(Path(binary)) as url:
            say(f"redis: {' '.join(told.split()[:3])} ({binary}) at {url}")
            yield url
        return
    say("redis: not redis-server: no such command on PATH")
    if os.environ.get("PATHCAST_REQUIRE_REDIS"):
        raise RuntimeError("PATHCAST_REQUIRE_REDIS is set, but there is no redis-server on PATH")
    with embedded.store() as url:
        say(f"redis: {embedded.names()[1]} at {url}")
        yield url
