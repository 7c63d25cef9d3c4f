"""Gives what was read to the sink until Kafka has it, however long that takes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from stream.adapters.live.parsed import Parsed
from stream.adapters.live.pieces import Piece
from stream.ingest.publishing.sink import Sink, Unavailable
from stream.wire import Reject

AT_ONCE: Final = 2_000  # pieces that go to the sink together: a tenth of what it lets wait
PAUSE_S: Final = 0.1  # between two tries; Kafka may answer, and yet take nothing


async def deliver(sink: Sink, pieces: Sequence[Piece], origin: str) -> None:
    """Returns when Kafka has all pieces. Waits while it is away, so that a caller that reads on only then is held back.

    After an answer that was lost, some of them may be there twice. Raises Refused if a broker denies access.
    """
    for begin in range(0, len(pieces), AT_ONCE):
        await _deliver(sink, pieces[begin : begin + AT_ONCE], origin)


async def _deliver(sink: Sink, pieces: Sequence[Piece], origin: str) -> None:
    while True:
        try:
            await _take(sink, pieces, origin)
            return
        except Unavailable:
            await sink.wait_until_available()
            await asyncio.sleep(PAUSE_S)


async def _take(sink: Sink, pieces: Sequence[Piece], origin: str) -> None:
    """Gives all pings at once, and rejects by the message that they are of."""
    letters: dict[bytes, list[Parsed]] = defaultdict(list)
    others: list[Parsed] = []
    for piece in pieces:
        (letters[piece.raw] if isinstance(piece.parsed, Reject) else others).append(piece.parsed)
    calls = [sink.take(rejects, raw, origin) for raw, rejects in letters.items()]
    if others:
        calls.append(sink.take(others, b"", origin))
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
