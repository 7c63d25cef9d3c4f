"""Keeps what a fleet knows in one file, so that a member that starts need not read the log again from far back.

    offset  size  field (little endian)
    0       4     "PCTR"
    4       2     version, 2
    6       16    BLAKE2b of the rest
    22            zlib: MessagePack of `_Body`

Beside it lie the zips of the feeds whose trips are under way, by their hashes: they go on with these after `--gtfs` was
replaced. A file that is broken, of another version, or of another topic, is left out. Knows files; knows no clock.
"""

from __future__ import annotations

import logging
import zlib
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec

from stream.services.stream_time import StreamTime
from stream.services.transit.feeds import hash_of, read_feed
from stream.services.transit.fleet import Feed, Fleet, Vehicle
from stream.storage import Storage
from stream.transit.predicting import Predictor
from stream.transit.predicting.remembering import dump_learnt, dump_runs, restore_learnt, restore_runs

log: Final = logging.getLogger(__name__)

MAGIC: Final = b"PCTR"
VERSION: Final = 2
_HASH_BYTES: Final = 16
_HEAD: Final = len(MAGIC) + 2 + _HASH_BYTES
_LEVEL: Final = 1  # of zlib: sums of floats hardly get smaller


class _Vehicle(msgspec.Struct, array_like=True):
    entity_id: str
    partition: int
    feed: str
    trip_id: str
    at_s: float
    ping_ms: int
    lat_deg: float
    lon_deg: float
    heading_deg: float | None
    speed_mps: float | None
    assigned: bool = False


class _Body(msgspec.Struct):
    topic: str  # of the pings
    topic_id: str  # by which brokers tell a topic from one of the same name that was deleted
    taken_ms: int  # by the machine's clock
    offsets: dict[int, int]
    time: StreamTime
    feed: str
    learnt: dict[str, Any]
    runs: dict[str, list[dict[str, Any]]]  # by the feed's hash
    vehicles: list[_Vehicle]


_ENCODER: Final = msgspec.msgpack.Encoder(enc_hook=lambda scalar: scalar.item())  # of numpy


def dump(fleet: Fleet, topic: str, topic_id: str, taken_ms: int) -> bytes:
    """Returns the fleet as the body of a file."""
    feeds = [fleet.feed, *fleet.older]
    body = _Body(
        topic,
        topic_id,
        taken_ms,
        dict(fleet.offsets),
        fleet.time,
        fleet.feed.hash,
        dump_learnt(fleet.feed.predictor),
        {feed.hash: dump_runs(feed.predictor) for feed in feeds if feed.predictor.runs},
        [
            _Vehicle(
                entity_id,
                partition,
                one.feed.hash,
                one.trip_id,
                one.at_s,
                one.ping_ms,
                one.lat_deg,
                one.lon_deg,
                one.heading_deg,
                one.speed_mps,
                one.assigned,
            )
            for partition, of_partition in fleet.vehicles.items()
            for entity_id, one in of_partition.items()
        ],
    )
    return _ENCODER.encode(body)


def seal(body: bytes) -> bytes:
    """Returns what `dump` made with its head, which takes a while for a large fleet."""
    packed = zlib.compress(body, _LEVEL)
    return MAGIC + VERSION.to_bytes(2, "little") + blake2b(packed, digest_size=_HASH_BYTES).digest() + packed


def load(raw: bytes, topic: str) -> _Body:
    """Returns what a file says. Raises ValueError for what is none, is broken, or of another version or topic."""
    if raw[: len(MAGIC)] != MAGIC or len(raw) < _HEAD:
        raise ValueError("it is no snapshot of trips")
    version = int.from_bytes(raw[4:6], "little")
    if version != VERSION:
        raise ValueError(f"it is of version {version}, and this pathcast reads {VERSION}")
    if blake2b(raw[_HEAD:], digest_size=_HASH_BYTES).digest() != raw[6:_HEAD]:
        raise ValueError("it is broken: its checksum is another one")
    body = msgspec.msgpack.decode(zlib.decompress(raw[_HEAD:]), type=_Body)
    if body.topic != topic:
        raise ValueError(f"it is of {body.topic}, and this one reads {topic}")
    return body


def restore(fleet: Fleet, body: _Body, older: dict[str, Feed], *, with_trips: bool) -> bool:
    """Lets a new fleet know what a snapshot says. `older` are the feeds at hand beside the fleet's own.

    Without `with_trips`, as where the log is another one, it knows only what was learnt. Returns whether it has all
    that was under way, so that it may go on at the offsets. Raises ValueError, KeyError or TypeError for what does not
    fit, and then the fleet is as before.
    """
    restore_learnt(fleet.feed.predictor, body.learnt)
    feeds = {**older, fleet.feed.hash: fleet.feed}
    if not with_trips or any(hash_ not in feeds for hash_ in body.runs):
        return False
    for hash_, runs in body.runs.items():
        if hash_ != fleet.feed.hash:
            feeds[hash_].predictor.learn_from(fleet.feed.predictor)
        restore_runs(feeds[hash_].predictor, runs)
    fleet.older = [feed for hash_, feed in older.items() if hash_ != fleet.feed.hash and feed.predictor.runs]
    for one in body.vehicles:
        if one.feed in feeds:
            _, partition, hash_, *rest = msgspec.structs.astuple(one)
            fleet.put(partition, one.entity_id, Vehicle(feeds[hash_], *rest))
    fleet.time, fleet.offsets = body.time, dict(body.offsets)
    return True


class Snapshots:
    """The file of one topic in a storage, and the zips beside it."""

    def __init__(self, storage: Storage, topic: str) -> None:
        self._storage, self._topic = storage, topic
        self.taken_ms: int | None = None  # of the newest that was read or written

    @property
    def _name(self) -> str:
        return f"{self._topic}.trips"

    def read(self) -> _Body | None:
        """Returns the newest one; None if there is none that is good, which one line tells."""
        try:
            body = load(self._storage.read(self._name), self._topic)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, zlib.error) as error:
            self._leave_out(error)
            return None
        self.taken_ms = body.taken_ms
        return body

    def restore(self, fleet: Fleet, body: _Body, *, with_trips: bool) -> bool:
        """Does the same as the function, with the zips that lie here."""
        older = {}
        for hash_ in body.runs if with_trips else ():
            if hash_ != fleet.feed.hash and (feed := self._read_zip(hash_)) is not None:
                older[hash_] = feed
        try:
            return restore(fleet, body, older, with_trips=with_trips)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._leave_out(error)
            fleet.feed.predictor = Predictor(fleet.feed.predictor.schedule)
            fleet.older, fleet.offsets = [], {}
            return False

    def _leave_out(self, error: Exception) -> None:
        told = " ".join(str(error).split()) or type(error).__name__
        log.warning("the snapshot %s/%s is left out: %s", self._storage.url, self._name, told)

    def write(self, body: bytes, taken_ms: int) -> None:
        """Writes what `dump` made, whole. Raises OSError."""
        with self._storage.writing(self._name) as part:
            part.write_bytes(seal(body))
        self.taken_ms = taken_ms

    def keep_zip(self, path: Path, hash_: str) -> None:
        """Copies the zip of a feed here, if it is that feed still and is not here. Raises OSError."""
        if self._zip(hash_) in self._storage.files("") or hash_of(path) != hash_:
            return
        with self._storage.writing(self._zip(hash_)) as part:
            part.write_bytes(path.read_bytes())

    def drop_zips(self, kept: set[str]) -> None:
        """Deletes the zips of feeds without trips. Raises OSError."""
        names = {self._zip(hash_) for hash_ in kept}
        start = self._zip("")[: -len(".zip")]
        for name in self._storage.files(""):
            if name.startswith(start) and name.endswith(".zip") and name not in names:
                self._storage.delete(name)

    def _zip(self, hash_: str) -> str:
        return f"{self._topic}.feed-{hash_}.zip"

    def _read_zip(self, hash_: str) -> Feed | None:
        with TemporaryDirectory(prefix="pathcast-") as scratch:
            path = Path(scratch) / "feed.zip"
            try:
                path.write_bytes(self._storage.read(self._zip(hash_)))
                feed = read_feed(path)
            except (OSError, ValueError) as error:
                log.warning("the trips of feed %s are left out: %s", hash_, " ".join(str(error).split()))
                return None
        return feed if feed.hash == hash_ else None
