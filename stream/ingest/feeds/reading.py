"""What a transport brings to a reader, and what it gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from stream.adapters.live.parsed import Reader
from stream.adapters.live.pieces import Piece


class Came(NamedTuple):
    """One thing that came: a line or a datagram."""

    raw: bytes
    ms: int  # when, in ms since 1970 UTC
    via: str = ""  # from where, if there are several


Read = Callable[[Came], Iterable[Piece]]


def by_line(read: Reader) -> Read:
    """Returns the reader of a format whose messages are a line each."""
    return lambda came: [Piece(parsed, came.raw) for parsed in read(came.raw, came.ms)]
