"""Says what one message of a live source comes to: a ping, a reject or a skip for each thing in it.

A reader of a format, `read(raw, came_ms)`, returns a list of these and never raises, whatever the bytes are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from stream.wire import REQUIRED, Ping, Reject, ping_rules
from stream.wire.ping_rules import read_optional, read_required

KNOT_MPS: Final = 1852 / 3600  # the international nautical mile, an hour
KMH_MPS: Final = 1 / 3.6
MPH_MPS: Final = 1609.344 / 3600  # the international mile, an hour
FOOT_M: Final = 0.3048  # the international foot
STAGE: Final = "adapter"  # of a reject: it was made before the pings topic


class Skip(NamedTuple):
    """Something in a message that is no position and no error, such as a last will; it is counted, and no more."""

    why: str  # a short slug, as it is the label of a counter: "lwt", "static_data"


Parsed = Ping | Reject | Skip
Reader = Callable[[bytes, int], list[Parsed]]  # the bytes, and when they came in ms since 1970 UTC


def reject(code: str, message: str) -> Reject:
    """Returns a reject of an adapter. `code` is of `stream.wire.CODES`."""
    return Reject(code, message, stage=STAGE)


def ping_of(fields: Mapping[str, Any], came_ms: int) -> Ping | Reject:
    """Returns the ping of fields that have our names and units, or the first rule that they break.

    The rules are those of the pings topic: a bad required field is a reject, a bad optional one is left out. None
    stands for an absent field. `came_ms` bounds the ping's time, as the record's timestamp does there.
    """
    needed = read_required(fields)
    if isinstance(needed, Reject):
        return needed._replace(stage=STAGE)
    if absent := [name for name in REQUIRED if name not in needed]:
        return reject("missing_field", f"{' and '.join(absent)} absent")
    others, _ = read_optional(fields)
    found = ping_rules.check_ping(Ping(**needed, **others), came_ms)
    if isinstance(found, Reject):
        return found._replace(stage=STAGE)
    return ping_rules.MARKED_INVALID._replace(stage=STAGE) if found.valid is False else found


class Piece(NamedTuple):
    """One thing of a message: how it was read, and the bytes that its dead letter holds."""

    parsed: Parsed
    raw: bytes
