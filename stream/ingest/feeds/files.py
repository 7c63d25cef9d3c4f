"""Sends recorded files through the sink, as fast as Kafka takes them, and follows files that grow.

`stream.adapters` reads them, as it does for `pathcast feed`; the rules are those of a worker (`stream.tracks.clean`).
While Kafka is away nothing is read, and what it did not take is given again when it is back.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from stream.adapters.column_names import ColumnMap
from stream.adapters.files import STDIN, RecordedRow, read_part
from stream.adapters.live.parsed import STAGE, Piece, Reader
from stream.adapters.recorded import Recording, read_by_map
from stream.ingest.feeds.following import FilePositions, GrowingFile
from stream.ingest.feeds.lines import Lines
from stream.ingest.publishing.delivering import AT_ONCE, deliver_pieces
from stream.ingest.publishing.sink import Sink
from stream.ingest.running import run_together
from stream.ingest.source import Source
from stream.tracks.clean import parse
from stream.wire import MAX_RECORD_BYTES, Record, Reject

log: Final = logging.getLogger(__name__)

_NDJSON: Final = Path("-.ndjson")  # what standard input is
LOOK_S: Final = 0.5  # between two looks whether a file has grown


def pieces(rows: Sequence[RecordedRow], now_ms: int) -> list[Piece]:
    """Returns what rows come to, by the rules of a worker. `now_ms` bounds their times."""
    found = []
    for row in rows:
        parsed = parse(Record("", 0, 0, now_ms, row.key, row.value))
        found.append(Piece(parsed._replace(stage=STAGE) if isinstance(parsed, Reject) else parsed, row.value))
    return found


async def send_all(recordings: Sequence[tuple[str, Recording]], sink: Sink, source: Source) -> None:
    """Sends recordings one after the other, each in the order of its rows. The texts name them.

    Raises ValueError or OSError for one that cannot be read, which names it: those before it were sent. Raises Refused
    if a broker denies access.
    """
    for name, recording in recordings:
        sent = 0
        async for some in _stdin(recording.reader) if recording.path == STDIN else _parts(recording):
            await deliver_pieces(sink, some, f"file:{name}")
            sent += len(some)
        log.info("%s: %d rows", name, sent)


async def _parts(recording: Recording) -> AsyncIterator[list[Piece]]:
    rows = await asyncio.to_thread(recording.rows)
    while some := await asyncio.to_thread(lambda: pieces(list(islice(rows, AT_ONCE)), _now_ms())):
        yield some


async def _stdin(reader: Reader | None) -> AsyncIterator[list[Piece]]:
    """Yields what standard input has as soon as a line is there: a pipe may be silent for long."""
    lines = Lines(MAX_RECORD_BYTES + 1)  # what is longer is rejected as too large, whatever follows
    async for data in standard_input_chunks():
        yield _of_part(_NDJSON, b"", b"\n".join(lines.push(data)), None, reader)
    yield _of_part(_NDJSON, b"", b"\n".join(lines.end()), None, reader)


async def follow(
    paths: Sequence[Path],
    columns: ColumnMap | None,
    reader: Reader | None,
    places: FilePositions,
    sink: Sink,
    source: Source,
) -> None:
    """Sends what files hold and what is appended to them, for ever, each from the place where it was left. `reader` is
    for lines of NDJSON that are no pings of ours.

    Raises ValueError if a column is missing, Refused if a broker denies access.
    """
    await run_together(*(_follow(path, columns, reader, places, sink) for path in paths))


async def _follow(
    path: Path, columns: ColumnMap | None, reader: Reader | None, places: FilePositions, sink: Sink
) -> None:
    growing = GrowingFile(path, places.of(path))
    while True:
        part = await asyncio.to_thread(growing.next)
        if part is None:
            await asyncio.sleep(LOOK_S)
            continue
        some = await asyncio.to_thread(_of_part, path, part.header, part.lines, columns, reader)
        await deliver_pieces(sink, some, f"file:{path}")
        growing.took(part)
        places.put(path, part.place)


def _of_part(path: Path, header: bytes, lines: bytes, columns: ColumnMap | None, reader: Reader | None) -> list[Piece]:
    rows = read_part(path, header, lines, columns)
    return pieces(list(rows if reader is None else read_by_map(rows, reader)), _now_ms())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


CHUNK_BYTES: Final = 64 << 10
MAX_CHUNKS: Final = 4  # that wait; then it is not read


async def standard_input_chunks() -> AsyncIterator[bytes]:
    """Yields what comes, until its end.

    A daemon thread reads it, and not the event loop, which cannot wait for a file; nor one of its pool, whose threads
    Python waits for at the end, as a silent pipe never ends. It reads the descriptor: the lock of `sys.stdin`, held by
    a thread that still waits, would end Python with a fatal error.
    """
    loop = asyncio.get_running_loop()
    came: asyncio.Queue[bytes | OSError] = asyncio.Queue(MAX_CHUNKS)
    descriptor = sys.stdin.fileno()

    def put(item: bytes | OSError) -> None:
        asyncio.run_coroutine_threadsafe(came.put(item), loop).result()

    def read() -> None:
        try:
            while data := os.read(descriptor, CHUNK_BYTES):
                put(data)
            put(b"")
        except OSError as error:
            put(error)
        except RuntimeError:  # the loop is closed: nobody listens
            return

    threading.Thread(target=read, name="standard input", daemon=True).start()
    while item := await came.get():
        if isinstance(item, OSError):
            raise item
        yield item
