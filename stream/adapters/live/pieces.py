"""One thing of a message that holds several, or of one that comes in several parts, with its own bytes."""

from __future__ import annotations

from typing import NamedTuple

from stream.adapters.live.parsed import Parsed


class Piece(NamedTuple):
    """One thing of a message: how it was read, and the bytes that its dead letter holds."""

    parsed: Parsed
    raw: bytes
