"""Turns the records of one partition into Avro: the same key, headers and fields.

A value begins as consumers of a schema registry expect it: a zero byte, and the id of the schema in four bytes, the
highest first. Nothing is kept from one record to the next.
"""

from __future__ import annotations

import logging
import struct
from collections import Counter
from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final, NamedTuple

import msgspec
from fastavro import parse_schema, schemaless_writer

from stream.contracts.json_schema import Schema
from stream.kafka.records.record_columns import Records
from stream.wire import NO_TIME_MS, Headers, Outgoing, Record

log: Final = logging.getLogger(__name__)

MAGIC: Final = 0
HEAD: Final = struct.Struct(">bI")  # 0 1 magic | 1 4 id of the schema
CONTENT_TYPE: Final = b"application/avro"
_OURS: Final = (msgspec.MsgspecError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


class Encoding(NamedTuple):
    """Where the records of one input go, and how."""

    topic: str
    schema_id: int
    schema: Any  # as fastavro parses it

    @classmethod
    def of(cls, topic: str, schema_id: int, schema: Schema) -> Encoding:
        return cls(topic, schema_id, parse_schema(schema))

    def encode(self, raw: bytes) -> bytes:
        """Returns a JSON record as Avro. Raises one of `_OURS` if it is not of the schema."""
        out = BytesIO()
        out.write(HEAD.pack(MAGIC, self.schema_id))
        schemaless_writer(out, self.schema, msgspec.json.decode(raw))
        return out.getvalue()


class AvroUnit:
    """One partition number."""

    def __init__(self, number: int, encodings: Mapping[str, Encoding]) -> None:
        """Takes an encoding for each input topic."""
        self._number = number
        self._encodings = encodings
        self._outgoing: list[Outgoing] = []
        self._counts: Counter[str] = Counter({"encoded": 0, "unreadable": 0})

    @property
    def waiting(self) -> int:
        return len(self._outgoing)

    @property
    def counts(self) -> Mapping[str, int]:
        return self._counts

    @property
    def needed(self) -> Mapping[str, int]:
        return {}

    def fold(self, records: Records) -> None:
        (topic, _), *_ = records.partitions
        encoding = self._encodings[topic]
        for record in records:
            try:
                value = None if record.value is None else encoding.encode(record.value)
            except _OURS as error:
                self._counts["unreadable"] += 1
                log.warning("%s/%d:%d is no record of ours, and left out: %r", *record[:3], error)
                continue
            src = Record("", self._number, record.offset, NO_TIME_MS, None, None)
            self._outgoing.append(Outgoing(encoding.topic, record.key, value, _headers(record.headers), src))
            self._counts["encoded"] += 1

    def take_outgoing(self, quiet_ms: int | None) -> list[Outgoing]:
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def metadata(self) -> str:
        return ""


def _headers(headers: Headers) -> Headers:
    return tuple((name, CONTENT_TYPE if name == "content-type" else value) for name, value in headers)
