"""Reads the schedule from its zip, and again when the zip has changed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from stream.services.transit.fleet import Feed
from stream.transit.predicting import Predictor
from stream.transit.schedule import read_schedule

log: Final = logging.getLogger(__name__)

HASH_CHARS: Final = 12  # of the SHA-256, enough to tell the feeds of one agency apart
_Seen = tuple[int, int, int]  # of a file: when it was written, how large it is, and which one


def read_feed(path: Path) -> Feed:
    """Reads a zip. Raises FileNotFoundError, ValueError in one line for what is no feed, OSError."""
    hash_before = hash_of(path)
    schedule = read_schedule(path)
    if hash_of(path) != hash_before:
        raise ValueError(f"{path}: it was replaced while it was read")
    return Feed(hash_before, Predictor(schedule))


def hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:HASH_CHARS]


class Zip:
    """The file that `--gtfs` names, which may be replaced."""

    def __init__(self, path: Path) -> None:
        """Reads it. Raises as `read_feed`."""
        self.path = path
        self._seen = _look(path)
        self.feed = read_feed(path)
        self._hash = self.feed.hash
        log.info("%s: feed %s, %s trips", path, self.feed.hash, f"{len(self.feed.predictor.schedule.trips):,}")

    def look(self, read: Callable[[Path], Feed] = read_feed) -> Feed | None:
        """Returns the feed, if it is another one than that of the last look. What cannot be read is told in one line,
        once, and leaves the feed before in force."""
        try:
            seen = _look(self.path)
            if seen == self._seen:
                return None
            self._seen, found = seen, hash_of(self.path)
            if found == self._hash:
                return None
            self._hash = found
            feed = read(self.path)
        except (OSError, ValueError) as error:
            self._seen, told = (0, 0, 0) if "replaced while" in str(error) else self._seen, str(error)
            log.error("the new feed is not taken, and %s goes on: %s", self.feed.hash, " ".join(told.split()))
            return None
        log.info("%s: new feed %s, %s trips", self.path, feed.hash, f"{len(feed.predictor.schedule.trips):,}")
        self.feed = feed
        return feed


def _look(path: Path) -> _Seen:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
