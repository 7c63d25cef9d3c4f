"""A service that runs in the test's own process, and its pages. Tests import this; it tests nothing itself."""

from __future__ import annotations

from urllib.error import URLError

from worker_pages import ask

from stream.config.http_access import LOOPBACK, Address
from stream.members.running import Door, serve
from stream.services.archive import member
from stream.services.archive.settings import ArchiveSettings
from stream.up.embedded import free_port


def free_door() -> tuple[str, Door]:
    """A port that is free now: the URL before the path, and the door."""
    port = free_port()
    return f"http://{LOOPBACK}:{port}", Door(Address(LOOPBACK, port), None)


async def archive(settings: ArchiveSettings, door: Door | None = None) -> None:
    """Runs a member of an archive until it is cancelled, or has come to its end."""
    await serve([member.service(settings)], door, stopped_by=())


def serves(base: str) -> bool:
    """Whether somebody serves there, and says that it is alive."""
    try:
        return ask(f"{base}/healthz")[0] == 200
    except URLError:
        return False
