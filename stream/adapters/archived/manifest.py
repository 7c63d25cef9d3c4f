"""The manifest of a partition: which files make it up, and up to which offset of the log. The layout of an archive:

    <root>/<topic>/archive.json                                       the topic, and the key of `forgotten` below
    <root>/<topic>/day=2026-11-30/p00003-<first>-<next>-<hex>.parquet pings of one UTC day, of the offsets [first, next)
    <root>/<topic>/landed/p00003-<number>.json                        the manifest; the highest number is the valid one
    <root>/<topic>/forgotten/<hash>.json                              an entity of which nothing is stored

A file of pings counts only if the valid manifest of its partition names it, and its name is never used twice. A
manifest is two lines: JSON, and its blake2b hash of 16 bytes in hexadecimal. It is created by one writer only, with the
number that follows the one that the writer has read; so whoever has missed a change is refused, and two writers can
neither land the same offsets nor undo each other. (One record of each landing would have to be read again for ever, and
could not say that files were merged, expired or rewritten.)

Why what a writer left behind may be deleted: a manifest names only files that were written after the one before it was
read. So if files were listed first and a manifest is created then, nobody can name those of them that it does not name.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final, TypeVar

import msgspec

FORMAT: Final = "pathcast-archive"
VERSION: Final = 1
LANDED: Final = "landed"  # the folder of manifests
DAY_MS: Final = 86_400_000
KEPT: Final = 4  # manifests of a partition; a reader that has listed one may still read it
DIGEST_BYTES: Final = 16
_MANIFEST: Final = re.compile(r"p(\d{5,})-(\d{12,})\.json")
DAY: Final = "day="  # how the name of a day's folder begins
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
T = TypeVar("T", bound=msgspec.Struct)


class ArchiveDamaged(ValueError):
    """A file of an archive is not what was written."""


class File(msgspec.Struct, frozen=True):
    """A file of pings. `day` counts from 1970-01-01 UTC."""

    name: str  # relative to the topic's folder
    day: int
    log: int  # increases when the log was cut, or the topic created anew, and other records come at the same offsets
    first: int  # offsets, as in the name
    next: int
    rows: int
    bytes: int
    from_ms: int  # the times of its first and last ping
    to_ms: int
    digest: str  # blake2b of its bytes, hexadecimal

    @property
    def order(self) -> tuple[int, int, int]:
        """By day, and within a day as the log has them."""
        return self.day, self.log, self.first


class Replaced(msgspec.Struct, frozen=True):
    """A file that counts no more, and is not deleted yet, as somebody may be reading it."""

    name: str
    since_ms: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Lists all that one partition of an archive consists of."""

    format: str = FORMAT
    version: int = VERSION
    topic: str
    partition: int
    number: int = 0  # 0: there is none yet
    writer: str = ""  # of this manifest: no two have the same
    epoch: int = 0  # increases when the partition is taken over
    log: int = 0
    topic_id: str = ""  # Kafka's; empty: unknown
    next_offset: int | None = None  # of the first record that has not landed; None: nothing has
    seen: str = ""  # what is known of the log below it (`stream.kafka.log.Seen`); empty: nothing
    landed_ms: int = 0  # when the newest records landed
    lost: int = 0  # records that retention in Kafka took before they landed
    counts: dict[str, int] = {}  # records that landed: "pings", and those left out, by reason
    forgotten: tuple[str, ...] = ()  # of which no file named here has a row: names in the folder `forgotten`
    files: tuple[File, ...] = ()
    replaced: tuple[Replaced, ...] = ()

    @property
    def names(self) -> set[str]:
        """All files that must not be deleted as leftovers."""
        return {file.name for file in self.files} | {file.name for file in self.replaced}


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Holds the fields of `archive.json`. The key is of the hashes that stand for forgotten entities."""

    format: str = FORMAT
    version: int = VERSION
    topic: str
    key: str


def dumps(manifest: Manifest) -> bytes:
    raw = msgspec.json.encode(manifest)
    return raw + b"\n" + digest_of(raw).encode() + b"\n"


def loads(raw: bytes, name: str) -> Manifest:
    """Raises ArchiveDamaged, which begins with `name`, also if another version of the program has written it."""
    line, _, rest = raw.partition(b"\n")
    if rest != digest_of(line).encode() + b"\n":
        raise ArchiveDamaged(f"{name} is damaged: its hash is another")
    return decode(line, Manifest, name)


def decode(raw: bytes, kind: type[T], name: str) -> T:
    """Decodes a Manifest or Head of this version. Raises as `loads`."""
    try:
        fields = msgspec.json.decode(raw)
        if (fields["format"], fields["version"]) != (FORMAT, VERSION):
            raise ArchiveDamaged(f"{name} is {fields['format']} {fields['version']}, expected {FORMAT} {VERSION}")
        return msgspec.convert(fields, kind)
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise ArchiveDamaged(f"{name} is damaged: {error}") from error


def digest_of(raw: bytes) -> str:
    return blake2b(raw, digest_size=DIGEST_BYTES).hexdigest()


def manifest_name(partition: int, number: int) -> str:
    return f"{LANDED}/p{partition:05d}-{number:012d}.json"


def parse_manifest_name(file: str) -> tuple[int, int] | None:
    """Returns partition and number of a manifest in its folder; None for another file."""
    match = _MANIFEST.fullmatch(file)
    return None if match is None else (int(match[1]), int(match[2]))


def pings_name(day: int, partition: int, first: int, next_offset: int, token: str) -> str:
    """Returns a file's name. `token` is random, so that no two writers mean the same file."""
    return f"{DAY}{date_of(day)}/p{partition:05d}-{first:012d}-{next_offset:012d}-{token}.parquet"


def is_of(file: str, partition: int) -> bool:
    """Returns whether a file in a folder of a day, also an unfinished one, is of a partition."""
    return file.removeprefix(".").startswith(f"p{partition:05d}-")


def date_of(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).strftime("%Y-%m-%d")
