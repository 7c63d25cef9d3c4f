"""Makes what identifies an answer: its id and its CloudEvents headers."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Final, Literal

from stream.wire.record import Headers


def forecast_id(entity_id: str, anchor_ts: int, model_version: str) -> str:
    """Returns the id of a forecast, which is always the same for one ping and model.

    Consumers can drop duplicates by it.
    """
    return _digest(entity_id, str(anchor_ts), model_version)


def gap_id(entity_id: str, start_ts: int) -> str:
    return _digest(entity_id, str(start_ts))


EVENT_ID: Final = "ce_id"
# It cannot occur in an entity id (`clean` refuses control characters), so the parts stay separate.
ID_SEPARATOR: Final = "\x1f"


def _digest(*parts: str) -> str:
    return blake2b(ID_SEPARATOR.join(parts).encode(), digest_size=16).hexdigest()


@lru_cache(maxsize=4096)
def event_headers(kind: Literal["forecast", "gapfill"], topic: str, partition: int) -> Headers:
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
