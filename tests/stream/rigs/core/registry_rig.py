"""Registries of every kind for the tests, a real S3 server among them, and versions to publish."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from stream.config import failpoints
from stream.processes.child import Supervised
from stream.up.embedded import HOST, free_port

START_S = 60.0  # moto takes two seconds; a busy machine takes longer
BUCKET = "versions"
# What s3fs reads from the environment. moto takes any key; nothing here leaves the machine.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}

PUBLISH = """
import os, sys
from pathlib import Path
from stream.config import failpoints
from stream.registry import About, Registry
failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
print(Registry.open(sys.argv[1]).publish_weights(Path(sys.argv[2]), About(note=sys.argv[3])).version)
"""
FETCH = """
import os, sys
from pathlib import Path
from stream.config import failpoints
from stream.registry import Registry
failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
print(Registry.open(sys.argv[1], Path(sys.argv[2])).fetch("weights", sys.argv[3]))
"""


@contextmanager
def s3_server() -> Iterator[str]:
    """Yields the endpoint of moto's server, in a process of its own. It holds what is put into it, with S3's rules."""
    home = Path(tempfile.mkdtemp(prefix="pathcast-s3-"))
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)]
    server = Supervised(command, log=home / "log", remove=home)
    try:
        deadline = time.monotonic() + START_S
        while not _answers(port):
            if not server.running or time.monotonic() > deadline:
                raise RuntimeError(f"moto's S3 server did not start: {server.log_tail()}")
            time.sleep(0.1)
        yield f"http://{HOST}:{port}"
    finally:
        server.stop()


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://{HOST}:{port}/moto-api/", timeout=5):
            return True
    except (URLError, OSError):
        return False


def weights_copy(folder: Path, weights: str | Path, card: str) -> Path:
    """Copies a directory of weights, with another card: the same version with other files."""
    shutil.copytree(weights, folder)
    (folder / "README.md").write_text(card)
    return folder


def run(script: str, *arguments: str, kill_point: str = "") -> subprocess.Popen[str]:
    """Starts one of the scripts above in a process of its own, which kills itself at that point."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", failpoints.VARIABLE: kill_point}
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Returns the exit code and all that it wrote."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out + err


def atlas_bytes(pings: int) -> bytes:
    """Returns an atlas without passages, of which another number of pings is another version."""
    from model.atlas.believing import UNFITTED
    from model.atlas.published import Published
    from model.atlas.version import dumps

    return dumps(Published.none(), UNFITTED, {"pings": pings})
