"""The pages of a service that runs in the test's own process. Tests import this; it tests nothing itself."""

from __future__ import annotations

from urllib.error import URLError

from worker_pages import ask

from stream.config.http_access import LOOPBACK, Address
from stream.members.running import Door
from stream.up.embedded import free_port


def free_door() -> tuple[str, Door]:
    """A port that is free now: the URL before the path, and the door."""
    port = free_port()
    return f"http://{LOOPBACK}:{port}", Door(Address(LOOPBACK, port), None)


def serves(base: str) -> bool:
    """Whether somebody serves there, and says that it is alive."""
    try:
        return ask(f"{base}/healthz")[0] == 200
    except URLError:
        return False
