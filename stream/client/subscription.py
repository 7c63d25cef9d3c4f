"""Iterates over a topic's records, with `for` or `async for`. `Forecasts` and `GapFills` are made of it.

Both kinds of loop stand on the same reader. A plain loop runs it in a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import deque
from collections.abc import Collection, Coroutine
from datetime import datetime, timedelta
from enum import Enum
from types import TracebackType
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

from stream.client.connecting import TopicAddress
from stream.client.filter import Kind, RecordFilter, SeenIds, Since
from stream.client.reader import Reader, Received
from stream.config.security import PLAIN_KAFKA, KafkaSecurity
from stream.wire import Topics

T = TypeVar("T")


class Background:
    """Runs coroutines for a thread that waits for each. The group's heartbeats go on while the caller is busy."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pathcast-client", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Returns what the coroutine returns. Whatever interrupts the wait, such as Ctrl-C, cancels it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Ends the thread. Calling it again does nothing."""
        if self._loop.is_closed() or threading.current_thread() is self._thread:
            return
        self.run(_end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _end_all() -> None:
    """Ends what is left, which is nothing but for a client that could not stop in time."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


REMEMBERED: Final = 65_536  # ids; some 8 MB. A worker that died repeats the records of one batch, 8,192 at most
WAIT_S: Final = 60.0  # of one poll; it returns with the first record


class _No(Enum):
    RECORD = "none in the buffer"
    MORE = "the end"


class Subscription(Generic[T]):
    """An endless iterator of the records of one topic, for one loop: `for`, or `async for`.

    Arguments:
        bootstrap: Kafka, `host:port[,host:port...]`.
        entity: one entity id, or several; default: all. Records of others are skipped before they are decoded, but
            the brokers send them all the same.
        bbox: (west, south, east, north) in degrees, edges included; west > east lies across the 180th meridian. A
            forecast is asked by its anchor, a gap fill by each of its points.
        since: by the time at which records were published: "10m" (s, m, h or d), a timedelta, a datetime with a
            zone, an RFC 3339 text, or "earliest" for all that the topic keeps; default: from now on.
        group: a consumer group. Its members share the partitions, and go on where it stands; `since` counts where it
            has no offset yet. A record is committed some 5 s after the loop has asked for the next one (`commit` does
            it at once), so that after a crash records come again, and none is missed. Default: none, nothing committed.
        prefix: of the topics' names; `topic` names another topic with the same records.
        follow: False ends at the end that the topic has when the loop begins.
        limit: ends after so many records.
        timeout_s: ends after so many seconds without a record. Raises ConnectionError instead if Kafka is away then.
        security: how to connect, as of a worker; default: no TLS and no user.
        remember: how many of the newest ids are kept, by which copies are dropped; 0 drops none.
        connect_s: seconds for the first connection. A later outage is waited out, with longer and longer pauses up
            to 15 s between attempts; the logger `stream.client` warns when it begins and ends.

    The first record, not the constructor, raises:
        ConnectionError: no broker answers within `connect_s`.
        stream.config.security.Refused: a broker denies access.
        ValueError: there is no such topic, or its records are Avro.

    Only committed records are seen (`read_committed`). A record that is none of this kind is left out and counted
    (`unreadable`).
    """

    _kind: ClassVar[Kind]  # type: ignore[type-arg]  # a class variable cannot depend on T

    def __init__(
        self,
        bootstrap: str = "localhost:9092",
        *,
        entity: str | Collection[str] | None = None,
        bbox: tuple[float, float, float, float] | None = None,
        since: str | datetime | timedelta | None = None,
        group: str | None = None,
        prefix: str = "pathcast",
        topic: str | None = None,
        follow: bool = True,
        limit: int | None = None,
        timeout_s: float | None = None,
        security: KafkaSecurity = PLAIN_KAFKA,
        remember: int = REMEMBERED,
        connect_s: float = 10.0,
        commit_s: float = 5.0,
    ) -> None:
        """Connects to nothing yet. Raises ValueError for an argument that makes no sense."""
        if limit is not None and limit < 1:
            raise ValueError(f"limit={limit} should be 1 or more")
        wanted, start = RecordFilter.of(entity, bbox), Since.of(since, time.time_ns() // 1_000_000)
        where = TopicAddress(bootstrap, topic or self._kind.topic(Topics.of(prefix)), group, security)
        self._reader: Reader[T] = Reader(
            where, self._kind, wanted=wanted, since=start, follow=follow, connect_s=connect_s
        )
        self._bounded = not follow or limit is not None or timeout_s is not None
        self._limit = limit
        self._timeout_s = timeout_s
        self._seen = SeenIds(remember)
        self._buffer: deque[Received[T]] = deque()
        self._passed: dict[int, int] = {}  # once the buffer is empty
        self._turn = 0
        self._last: Received[T] | None = None  # the loop has it, and has not asked for another one
        self._commit_s = commit_s
        self._commit_due_s = time.monotonic() + commit_s
        self._handed_out = 0
        self._copies = 0
        self._ended = False
        self._background: Background | None = None
        self._closing: weakref.finalize[..., Any] | None = None

    @property
    def copies(self) -> int:
        """Returns how many copies of records were dropped."""
        return self._copies

    @property
    def unreadable(self) -> int:
        """Returns how many records of the topic were none of this kind."""
        return self._reader.unreadable

    # -- a plain loop

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        found = self._from_buffer()
        if found is _No.RECORD:
            found = self._thread().run(self._next())
        if found is _No.MORE:
            raise StopIteration
        assert not isinstance(found, _No)
        return found

    def commit(self) -> None:
        """Commits now, the record that the loop has at present included. Without a group it does nothing."""
        self._thread().run(self.acommit())

    def close(self) -> None:
        """Commits what the loop has asked beyond, leaves the group, and ends the connections. Ends the iteration."""
        self._ended = True
        if self._background is not None and self._closing is not None:
            self._background.run(self.aclose())
            self._closing.detach()
            self._background.close()
            self._background = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _thread(self) -> Background:
        if self._background is None:
            self._background = Background()
            # A loop that was left by `break`, and nobody closed: at the latest when the program ends.
            self._closing = weakref.finalize(self, _close, self._background, self._reader)
        return self._background

    # -- an async loop

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._background is not None:
            raise RuntimeError("this subscription is read by a plain loop already: make another one for `async for`")
        found = self._from_buffer()
        if found is _No.RECORD:
            found = await self._next()
        if found is _No.MORE:
            raise StopAsyncIteration
        assert not isinstance(found, _No)
        return found

    async def acommit(self) -> None:
        """Does in an async loop what `commit` does in a plain one."""
        self._finish_last()
        await self._commit()

    async def aclose(self) -> None:
        """Does in an async loop what `close` does in a plain one."""
        self._ended = True
        await self._commit()
        await self._reader.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.aclose()

    # -- both

    def _from_buffer(self) -> T | _No:
        """Returns the next record, RECORD if the reader has to be asked, or MORE if there is no more."""
        self._finish_last()
        if self._ended:
            return _No.MORE
        if time.monotonic() >= self._commit_due_s or self._has_enough():
            return _No.RECORD
        return self._take()

    def _take(self) -> T | _No:
        if self._is_stale():
            self._buffer.clear()  # whoever has these partitions now gets their records again, from what was committed
            self._passed = {}
        while self._buffer:
            received = self._buffer.popleft()
            if self._seen.is_new(self._kind.id_of(received.record)):
                self._last = received
                self._handed_out += 1
                return received.record
            self._copies += 1
        self._reader.done(self._passed)
        self._passed = {}
        return _No.RECORD

    async def _next(self) -> T | _No:
        quiet_s = time.monotonic()
        while True:
            if time.monotonic() >= self._commit_due_s:
                await self._commit()
            if self._has_enough():
                return await self._end()
            if (found := self._take()) is not _No.RECORD:
                return found
            wait_s = min(WAIT_S, self._commit_due_s - time.monotonic()) if self._reader.in_group else WAIT_S
            if self._timeout_s is not None:
                left_s = quiet_s + self._timeout_s - time.monotonic()
                if left_s <= 0:
                    if self._reader.away:
                        raise ConnectionError(f"Kafka did not answer for {self._timeout_s:g} s")
                    return await self._end()
                wait_s = min(wait_s, left_s)
            batch = await self._reader.poll(max(0.0, wait_s))
            self._buffer.extend(batch.records)
            self._passed, self._turn = batch.passed, batch.turn
            if self._reader.at_end and not self._buffer:
                return await self._end()

    def _has_enough(self) -> bool:
        return self._limit is not None and self._handed_out >= self._limit

    def _is_stale(self) -> bool:
        """Returns whether the records in the buffer may be another member's now."""
        return self._reader.in_group and self._turn != self._reader.turn

    async def _end(self) -> _No:
        await self.aclose()
        return _No.MORE

    async def _commit(self) -> None:
        await self._reader.commit()
        self._commit_due_s = time.monotonic() + self._commit_s

    def _finish_last(self) -> None:
        if self._last is not None and not self._is_stale():
            self._reader.done({self._last.partition: self._last.offset + 1})
        self._last = None

    def read(self) -> list[T]:
        """Returns all records up to the end that the topic has now, or what `follow`, `limit` and `timeout_s` allow,
        and closes."""
        if not self._bounded:
            self._reader.stop_at_end()
        with self:
            return list(self)


def _close(background: Background, reader: Reader) -> None:  # type: ignore[type-arg]  # of any kind
    background.run(reader.close())
    background.close()
