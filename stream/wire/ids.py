"""Makes the ids of answers and their CloudEvents headers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Final, Literal

from stream.wire.record import Headers


def forecast_id(entity_id: str, anchor_ts: int, model_version: str, atlas_version: str | None = None) -> str:
    """Returns the id of a forecast, which is always the same for one ping, model and version of the atlas (None where
    it asked none).

    Consumers can drop duplicates by it.
    """
    return _digest(entity_id, str(anchor_ts), model_version, *([] if atlas_version is None else [atlas_version]))


def gap_id(entity_id: str, start_ts: int) -> str:
    return _digest(entity_id, str(start_ts))


EVENT_ID: Final = "ce_id"
Kind = Literal["forecast", "gapfill", "score", "drift", "latest", "arrival", "arrived", "inside", "trip"]
ID_CHARS: Final = 32
# It cannot occur in an entity id (`clean` refuses control characters), so the parts stay separate.
ID_SEPARATOR: Final = "\x1f"


_NO_TEXT: Final = blake2b(digest_size=ID_CHARS // 2)


def digests(texts: Iterable[bytes]) -> bytes:
    """Returns the ids of many texts, each of parts joined by ID_SEPARATOR, one id after the other."""
    ids = []
    for text in texts:
        one = _NO_TEXT.copy()  # it costs two thirds of a new one
        one.update(text)
        ids.append(one.digest())
    return b"".join(ids).hex().encode()


def _digest(*parts: str) -> str:
    return digests([ID_SEPARATOR.join(parts).encode()]).decode()


@lru_cache(maxsize=4096)
def event_headers(kind: Kind, topic: str, partition: int) -> Headers:
    """Returns the CloudEvents 1.0 headers of an answer to a record of that partition, except EVENT_ID, which comes
    last.

    They use Kafka's binary mode: attributes are `ce_` headers, the value stays plain JSON.
    """
    return (
        ("ce_specversion", b"1.0"),
        ("ce_type", f"pathcast.{kind}.v1".encode()),
        ("ce_source", f"/{topic}/{partition}".encode()),
        ("content-type", b"application/json"),
    )
