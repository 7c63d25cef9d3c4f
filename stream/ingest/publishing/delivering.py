"""Gives what was read to the sink until Kafka has it, however long that takes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from stream.adapters.live.parsed import Parsed, Piece
from stream.ingest.publishing.sink import Sink, Unavailable
from stream.wire import Reject

AT_ONCE: Final = 2_000  # pieces that go to the sink together: a tenth of what it lets wait
PAUSE_S: Final = 0.1  # between two tries; Kafka may answer, and yet take nothing


class Message(NamedTuple):
    """One message of a source: what was read from it, its bytes, and where it came from, as `Sink.take` has them."""

    parsed: Sequence[Parsed]
    raw: bytes
    origin: str
    acknowledge: Callable[[], None] = lambda: None  # called once Kafka has it


async def deliver(sink: Sink, messages: Iterable[Message]) -> None:
    """Returns when Kafka has all messages. Waits while it is away, so that a caller that reads on only then is held
    back.

    After an answer that was lost, some of them may be there twice. Raises Refused if a broker denies access.
    """
    waiting = list(messages)
    while waiting:
        calls = (sink.take(one.parsed, one.raw, one.origin) for one in waiting)
        left = []
        for one, outcome in zip(waiting, await asyncio.gather(*calls, return_exceptions=True), strict=True):
            if outcome is None:
                one.acknowledge()
            elif isinstance(outcome, Unavailable):
                left.append(one)
            else:
                raise outcome
        waiting = left
        if waiting:
            await sink.wait_until_available()
            await asyncio.sleep(PAUSE_S)


async def deliver_pieces(sink: Sink, pieces: Sequence[Piece], origin: str) -> None:
    """Does the same with pieces: all pings at once, and rejects by the message that they are of."""
    for begin in range(0, len(pieces), AT_ONCE):
        by_raw: dict[bytes, list[Parsed]] = defaultdict(list)
        for piece in pieces[begin : begin + AT_ONCE]:
            by_raw[piece.raw if isinstance(piece.parsed, Reject) else b""].append(piece.parsed)
        await deliver(sink, [Message(parsed, raw, origin) for raw, parsed in by_raw.items()])
