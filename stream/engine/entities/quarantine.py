"""The quarantine of an entity whose step raised: where, what, under which versions, and until when.

It is stored in the place of the entity's record (`stored_entity`), so it goes wherever the entity goes:

    offset     size  field
         0        4  magic "PCEQ"
         4        2  version, uint16: 1
         6        6  sizes of the three texts, uint16 each
        12        4  checksum, uint32: CRC-32 of the entity's id (UTF-8) and of everything except itself
        16        8  offset, int64: of the input record whose step raised
        24        8  since_ms, int64: that record's timestamp; -1 if it has none
        32   to end  texts, UTF-8: the program's version, the model's version, what was raised

All fields are little-endian. It is written once and not with each record that it refuses, so it expires like any other
record.
"""

from __future__ import annotations

import struct
from importlib.metadata import PackageNotFoundError, version
from typing import Final, NamedTuple
from zlib import crc32

from stream.engine.entities.stored_entity import RecordError
from stream.wire import Reject

MAGIC: Final = b"PCEQ"
VERSION: Final = 1
STEP_FAILED: Final = "step_failed"
ENTITY_QUARANTINED: Final = "entity_quarantined"
FAULTS: Final = frozenset({STEP_FAILED, ENTITY_QUARANTINED})
STAGE: Final = "engine"
# Of the exception's text: it goes into a header of every dead letter, and its end matters least.
MAX_TEXT_CHARS: Final = 300
MAX_TEXT_BYTES: Final = 10 * MAX_TEXT_CHARS  # a character without a UTF-8 form becomes ten bytes at most
_HEAD: Final = struct.Struct("<4sH3HI2q")
_CHECKSUM_AT: Final = 12


class Versions(NamedTuple):
    """The program and the model that may have been at fault instead of the entity."""

    program: str
    model: str


class Quarantine(NamedTuple):
    """The quarantine of one entity. Its input records below `next_offset` have their answers."""

    offset: int
    since_ms: int
    versions: Versions
    raised: str
    next_offset: int  # not stored: the next owner begins where all records before are answered

    def stands(self, versions: Versions, timestamp_ms: int, ttl_ms: float) -> bool:
        """Returns whether the quarantine holds for a record of that time.

        Another program or model may contain the fix, so it gets its try. The clock is the record's own timestamp, so
        that a replay decides as the first pass did. A record without a time ends no quarantine; a quarantine that began
        without a time ends with the first record that has one.
        """
        return self.versions == versions and timestamp_ms - self.since_ms <= ttl_ms

    @property
    def failure(self) -> Reject:
        """The reject for the record whose step raised."""
        return fault(STEP_FAILED, self.raised)

    @property
    def refusal(self) -> Reject:
        """The reject for a later record."""
        return fault(ENTITY_QUARANTINED, f"since offset {self.offset}: {self.raised}")


def begin_quarantine(offset: int, timestamp_ms: int, versions: Versions, error: Exception) -> Quarantine:
    """Returns the quarantine of an entity whose step raised `error` at the record at `offset`."""
    text = " ".join(f"{type(error).__name__}: {error}".split())[:MAX_TEXT_CHARS]
    raised = text.encode(errors="backslashreplace").decode()  # a message may contain surrogates, a header may not
    return Quarantine(offset, timestamp_ms, versions, raised, offset + 1)


def fault(code: str, message: str) -> Reject:
    return Reject(code, message, STAGE, retryable=True)


def dumps(entity_id: str, found: Quarantine) -> bytes:
    texts = [text.encode() for text in (*found.versions, found.raised)]
    bare = _HEAD.pack(MAGIC, VERSION, *map(len, texts), 0, found.offset, found.since_ms) + b"".join(texts)
    return bare[:_CHECKSUM_AT] + struct.pack("<I", _checksum(entity_id, bare)) + bare[_CHECKSUM_AT + 4 :]


def is_one(raw: bytes) -> bool:
    """Returns whether these stored bytes are a quarantine, sound or not, instead of a record."""
    return raw.startswith(MAGIC)


def loads(entity_id: str, raw: bytes) -> Quarantine:
    """Reads a quarantine. Raises RecordError if it is of an unknown version, damaged, or another entity's."""
    if len(raw) < _HEAD.size:
        raise RecordError(f"a quarantine of {len(raw)} bytes, at least {_HEAD.size} are expected: cut short?")
    _, number, *sizes, checksum, offset, since_ms = _HEAD.unpack_from(raw)
    if number != VERSION:
        raise RecordError(f"a quarantine of version {number}, this release reads {VERSION}")
    bare = raw[:_CHECKSUM_AT] + bytes(4) + raw[_CHECKSUM_AT + 4 :]
    if len(raw) != _HEAD.size + sum(sizes) or checksum != _checksum(entity_id, bare):
        raise RecordError("a quarantine whose checksum does not match: damaged, or another entity's")
    try:
        program, model, raised = _texts(raw[_HEAD.size :], sizes)
    except UnicodeDecodeError as error:
        raise RecordError("a quarantine with a right checksum over texts that are none: who wrote it?") from error
    if offset < 0 or max(sizes) > MAX_TEXT_BYTES:
        raise RecordError("a quarantine with a right checksum over what no fault leaves: who wrote it?")
    return Quarantine(offset, since_ms, Versions(program, model), raised, offset + 1)


def program_version() -> str:
    try:
        return version("pathcast")
    except PackageNotFoundError:
        return "unknown"  # run from a checkout that is not installed


def _texts(joined: bytes, sizes: list[int]) -> tuple[str, str, str]:
    first, second, _ = sizes
    return joined[:first].decode(), joined[first : first + second].decode(), joined[first + second :].decode()


def _checksum(entity_id: str, bare: bytes) -> int:
    return crc32(bare, crc32(entity_id.encode()))
