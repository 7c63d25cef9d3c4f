"""Starts `pathcast map` for the demo, as a user would start it."""

from __future__ import annotations

import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stream.demo import embedded
from stream.processes.child import Supervised

PORT: Final = 8_765  # that of `pathcast map` itself; another one, if somebody listens there
START_S: Final = 120.0  # it compiles how records are read, in a fresh clone
TIMES: Final = (
    "--keep",
    "30m",
    "--stale-after",
    "15m",
)  # a replay is two minutes a second, and buses report each minute
LISTENS: Final = re.compile(r"listening at (http://[^,]+),")


@contextmanager
def shown(bootstrap: str, atlases: Path, wait: Callable[[], None]) -> Iterator[str | None]:
    """Yields the address of a map of this broker's forecasts; None if it does not start, for which the demo need not
    end. `wait` is called now and then until then. The topics must exist."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PATHCAST_")}
    where = ["--bootstrap", bootstrap, "--listen", f"{embedded.HOST}:{_port()}"]
    command = [sys.executable, "-c", "from stream.commands.main import main; main()", "map", *where]
    command += ["--source", "forecasts", "--atlases", str(atlases), "--title", "pathcast demo", *TIMES]
    home = Path(tempfile.mkdtemp(prefix="pathcast-"))
    process = Supervised(command, log=home / "map.log", remove=home, env=ours)
    try:
        yield _address(process, wait)
    finally:
        process.stop()


def _address(process: Supervised, wait: Callable[[], None]) -> str | None:
    deadline = time.monotonic() + START_S
    while (found := LISTENS.search(process.log.read_text(errors="replace"))) is None:
        if not process.running or time.monotonic() > deadline:
            return None
        wait()
        time.sleep(0.1)
    return found[1]


def _port() -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the map's server does
        try:
            probe.bind((embedded.HOST, PORT))
        except OSError:
            return embedded.free_port()
    return PORT
