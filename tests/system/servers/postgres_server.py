"""A PostgreSQL with PostGIS for the tests, from the machine's own packages. Tests import it; it tests nothing itself.

It refuses to run as root, so that root runs it as the user `postgres`, which the package makes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stream.processes.child import Supervised
from stream.up import embedded

START_S = 240.0  # a bound on waiting
BINARIES = Path("/usr/lib/postgresql")  # Debian's: a folder for each version


class Unavailable(Exception):
    """This machine has no PostgreSQL with PostGIS; the message gives the reason."""


@contextmanager
def running(say: Callable[[str], None]) -> Iterator[str]:
    """Its URL, of an empty database. Raises Unavailable."""
    binaries = _binaries()
    as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    home = Path(tempfile.mkdtemp(prefix="pathcast-postgres-"))
    if as_user:
        shutil.chown(home, "postgres")
    port = embedded.free_port()
    data = home / "data"
    made = subprocess.run(
        [*as_user, str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N"],
        capture_output=True, text=True, timeout=START_S, check=False, cwd="/",
    )  # fmt: skip
    if made.returncode != 0:
        shutil.rmtree(home, ignore_errors=True)
        raise Unavailable(f"initdb failed: {made.stderr[-300:]}")
    quick = ["-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", f"unix_socket_directories={home}"]
    server = Supervised(
        [*as_user, str(binaries / "postgres"), "-D", str(data), "-h", embedded.HOST, "-p", str(port), *quick],
        log=home / "log",
        remove=home,
    )
    try:
        url = f"postgresql://postgres@{embedded.HOST}:{port}/postgres"
        say(f"postgres: {_wait_until_up(url, server)} at {url}")
        yield url
    finally:
        server.stop()


def _binaries() -> Path:
    found = sorted(BINARIES.glob("*/bin/initdb"))
    if not found:
        raise Unavailable("no PostgreSQL server (package postgresql)")
    extension = Path("/usr/share/postgresql") / found[-1].parent.parent.name / "extension" / "postgis.control"
    if not extension.exists():
        raise Unavailable(f"no PostGIS for it (package postgresql-{found[-1].parent.parent.name}-postgis-3)")
    return found[-1].parent


def _wait_until_up(url: str, server: Supervised) -> str:
    import psycopg

    deadline = time.monotonic() + START_S
    while True:
        try:
            with psycopg.connect(url) as connection:
                row = connection.execute("SHOW server_version").fetchone()
                return f"PostgreSQL {row[0] if row else '?'}"
        except psycopg.OperationalError as error:
            if not server.running or time.monotonic() > deadline:
                raise Unavailable(f"PostgreSQL did not come up: {error} {server.log_tail(3)}") from error
            time.sleep(0.05)
