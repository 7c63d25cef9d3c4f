"""`pathcast map` as a process of its own. Tests import this; it tests nothing itself."""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from typing import Final

from pathcast_process import eventually
from worker_process import READY_S, Worker

# The root command with this command alone, whatever is installed.
MAP: Final = (
    sys.executable,
    "-c",
    "import typer; from stream.commands import main; from stream.api.map.cli import show_map; app = typer.Typer(); "
    "app.command()(show_map); main.build = lambda: app; main.main()",
)


def base_of(server: Worker) -> str:
    """The address of a map, once it has read all that was there."""
    server.wait_for("listening at http://", READY_S)
    found = re.search(r"listening at (http://[^,]+),", server.log())
    assert found is not None
    assert eventually(lambda: status_of(f"{found[1]}/readyz") == 200), server.log()
    return found[1]


def status_of(url: str, token: str | None = None) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as said:
            return int(said.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
