"""What delivery means (DESIGN section 4). Owns offsets, checkpoints and takeovers; knows nothing of Faust.

For each batch, in this order, each step only after the one before it succeeded:

    engine answers -> the broker has every answer -> the offsets are committed -> the input is retired
                   -> now and then, the states go to Redis ("write-behind")

While the broker takes one batch the engine is at the next; not further, so that a batch waits for at most one other.

So a crash anywhere leaves the input uncommitted, and it is read again: answers may be published twice with the same id,
never lost. A checkpoint c is never ahead of the committed offset k. Whoever takes a partition over folds [c, k) into
the states without publishing, then goes on from k.

    who                                                            while Redis is away
    takeover   claims an epoch, replays, opens the gate            waits, and so does its partition
    pump       one batch at a time, partitions behind open gates   a batch that needs a stored state waits; others go on
    checkpoint writes what changed, under the epoch                retries; behind by MAX_UNSAVED, the pump waits

A failure that waiting cannot cure ends `run` with the error: the worker stops, having committed nothing of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from redis.exceptions import RedisError

from stream.batch import Limits
from stream.engine import Engine
from stream.seams import InputLog, Output, Owned, Piece, Rebalanced
from stream.settings import Settings
from stream.source import Partition
from stream.store import Fenced, Store
from stream.takeover import plan
from stream.wire import Outgoing, Record

log = logging.getLogger(__name__)

# Input records of one partition whose effect no checkpoint has yet. Behind by that much the pump waits for Redis:
# it bounds what a takeover must replay (some 10 s of work) and the states that only this process holds.
MAX_UNSAVED = 200_000
RETRY_S = (0.1, 0.3, 1.0, 2.0)  # between tries to reach Redis; the last repeats
FENCED_PAUSE_S = 1.0  # before claiming again: time for a rebalance to say that we were a zombie
AWAY = (RedisError, OSError)  # what a store raises while it cannot be reached


def now_ms() -> float:
    return time.time() * 1000


class Delivery:
    """Moves records from `put` through the engine to the broker; keeps offsets and checkpoints in step with them."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        store: Store,
        output: Output,
        input_log: InputLog,
        *,
        clock: Callable[[], float] = now_ms,
    ) -> None:
        self._settings = settings
        self._limits = Limits(settings.max_batch, settings.max_wait_ms)
        self._engine = engine
        self._store = store
        self._output = output
        self._input = input_log
        self._clock = clock
        self._owned: dict[Partition, Owned] = {}
        self._waiting: list[Piece] = []  # in the order of their arrival; a handful
        self._news = asyncio.Event()  # something for the pump to look at
        self._room = asyncio.Event()  # _waiting has shrunk
        self._busy = asyncio.Lock()  # held by whoever uses the engine; it does one thing at a time
        self._finishing: asyncio.Task[None] | None = None  # the batch that the broker has still to take
        self._draining = False
        self._announced = False  # that all partitions are ready
        self._error: BaseException | None = None  # of a takeover
        self._retry_at_ms = 0.0  # no checkpoint before then
        self._save_failures = 0
        self.records_in = 0
        self.records_out = 0

    # -- input --------------------------------------------------------------------------------------------------

    async def put(
        self, partition: Partition, records: Sequence[Record], fetched_ms: float, done: Callable[[], None]
    ) -> None:
        """Take responsibility for one poll's records; returns when there is room for more.

        `done` is called when the records are answered and committed, or when they are not ours to answer any more.
        """
        owned = self._owned.get(partition)
        if owned is None or owned.gone or self._draining:
            done()  # of an assignment that is over; the next owner reads them again
            return
        self._waiting.append(Piece(owned, records, fetched_ms, done))
        self._news.set()
        while sum(len(piece.records) for piece in self._waiting) >= 2 * self._settings.max_batch:
            self._room.clear()
            await self._room.wait()

    def _forget(self, which: Callable[[Owned], bool]) -> None:
        """Retire what waits for these partitions, unanswered: their next owner reads it again."""
        forgotten = [piece for piece in self._waiting if which(piece.owned)]
        self._waiting = [piece for piece in self._waiting if not which(piece.owned)]
        for piece in forgotten:
            piece.done()
        self._room.set()

    # -- the pump -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Deliver until cancelled. Raises what no waiting can cure; nothing of the failed batch is committed."""
        while True:
            await self._until_due()
            async with self._busy:
                if pieces := self._next_batch():
                    await self._deliver(pieces)
                if (owned := self._due_for_saving()) is not None:
                    await self._settle()  # a checkpoint holds what is committed, and no more
                    await self._save(owned)

    async def _until_due(self) -> None:
        while True:
            if self._error is not None:
                raise self._error
            if self._finishing is not None and self._finishing.done():
                await self._settle()
            self._news.clear()
            due_ms = self._due_at_ms(self._open())
            if unsaved := self._unsaved():
                due_ms = min(due_ms, max(self._retry_at_ms, min(owned.save_at_ms for owned in unsaved)))
            wait_s = (due_ms - self._clock()) / 1000
            if wait_s <= 0:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(min(wait_s, 3600.0)):
                    await self._news.wait()

    def _open(self) -> list[Piece]:
        """What may be processed now, oldest first. A partition stays shut until its takeover is complete, and while
        too much of it is in no checkpoint."""
        return [
            piece
            for piece in self._waiting
            if piece.owned.ready and piece.owned.next_offset - piece.owned.saved < MAX_UNSAVED
        ]

    def _due_at_ms(self, pieces: Sequence[Piece]) -> float:
        records = sum(len(piece.records) for piece in pieces)
        return self._limits.due_at_ms(records, pieces[0].fetched_ms if pieces else None)

    def _next_batch(self) -> list[Piece]:
        open_ = self._open()
        if self._due_at_ms(open_) > self._clock():
            return []  # woken for a checkpoint
        batch = open_[: self._limits.fit(len(piece.records) for piece in open_)]
        taken = set(map(id, batch))
        self._waiting = [piece for piece in self._waiting if id(piece) not in taken]
        self._room.set()
        return batch

    async def _deliver(self, pieces: Sequence[Piece]) -> None:
        """Take one batch through the engine; then, once the batch before is finished, let it be finished, too."""
        records = [r for piece in pieces for r in piece.records if r.offset >= piece.owned.taken]
        outgoing = await self._process(records, pieces[0].fetched_ms)
        for piece in pieces:
            piece.owned.taken = max(piece.owned.taken, piece.records[-1].offset + 1)
        await self._settle()
        if outgoing is None:  # draining, and the store is away
            self._lose({piece.owned for piece in pieces})
        gone = {piece.owned.partition for piece in pieces if piece.owned.gone}
        if gone:  # lost while the engine was at work
            for piece in pieces:
                if piece.owned.gone:
                    piece.done()
            pieces = [piece for piece in pieces if not piece.owned.gone]
            outgoing = [one for one in outgoing or () if (one.src.topic, one.src.partition) not in gone]
        if pieces:
            self._finishing = asyncio.create_task(self._finish(pieces, len(records), outgoing or ()))
            self._finishing.add_done_callback(lambda _: self._news.set())

    async def _finish(self, pieces: Sequence[Piece], records: int, outgoing: Sequence[Outgoing]) -> None:
        """One batch from answers to commit. What raises leaves it uncommitted and not retired."""
        next_offsets = {piece.owned: piece.records[-1].offset + 1 for piece in pieces}  # the last piece's stands
        try:
            await self._output.publish(outgoing)
            await self._input.commit_offsets({owned.partition: offset for owned, offset in next_offsets.items()})
            self.records_in += records
            self.records_out += len(outgoing)
            for owned, offset in next_offsets.items():
                owned.next_offset = max(owned.next_offset, offset)
        except Rebalanced as error:
            log.warning("%s; whoever owns these partitions now reads the records again", error)
            self._lose(next_offsets)
        for piece in pieces:
            piece.done()

    async def _settle(self) -> None:
        """Wait for the batch that is being finished. Raises what it raised."""
        if self._finishing is not None:
            await asyncio.shield(self._finishing)
            self._finishing = None

    async def _settled(self) -> None:
        """Wait for it, and leave to `run` what it raised."""
        if self._finishing is not None:
            await asyncio.wait([self._finishing])

    async def _process(self, records: Sequence[Record], fetched_ms: float) -> list[Outgoing] | None:
        """The engine's answers. Waits for a store that is away; None if we are told to drain meanwhile."""
        for delay_s in _delays():
            try:
                return await self._engine.process(records, started_ms=self._clock(), fetched_ms=fetched_ms)
            except AWAY as error:
                if self._draining:
                    return None
                log.warning("Redis is away (%s): %d records wait for their stored states", error, len(records))
                await asyncio.sleep(delay_s)
        raise AssertionError("the delays never end")

    def _lose(self, lost: Iterable[Owned]) -> None:
        """Another member owns these now, or soon. Their states are ahead of what is committed: forget them."""
        for owned in lost:
            owned.gone = True
            owned.ready = False
            self._engine.drop(owned.partition)
        self._forget(lambda owned: owned.gone)

    # -- checkpoints --------------------------------------------------------------------------------------------

    def _unsaved(self) -> list[Owned]:
        return [owned for owned in self._owned.values() if owned.ready and owned.next_offset > owned.saved]

    def _due_for_saving(self) -> Owned | None:
        """The partition that has waited longest for its checkpoint. One between two batches: all at once would hold up
        the pings that come meanwhile."""
        now_ms = self._clock()
        due = [owned for owned in self._unsaved() if owned.save_at_ms <= now_ms] if now_ms >= self._retry_at_ms else []
        return min(due, key=lambda owned: owned.save_at_ms, default=None)

    async def _save(self, owned: Owned) -> None:
        """Checkpoint a partition. Redis away is no failure: try again later, and say so."""
        try:
            await self._save_one(owned)
        except AWAY as error:
            delay_s = RETRY_S[min(self._save_failures, len(RETRY_S) - 1)]
            self._save_failures += 1
            behind = max(owned.next_offset - owned.saved for owned in self._unsaved())
            log.warning("Redis is away (%s): checkpoints are %d records behind (limit %d)", error, behind, MAX_UNSAVED)
            self._retry_at_ms = self._clock() + delay_s * 1000
        else:
            self._save_failures = 0
            owned.save_at_ms = self._clock() + self._settings.checkpoint_ms

    async def _save_one(self, owned: Owned) -> None:
        """The states of one partition, which include exactly the records below `next_offset`, all committed."""
        try:
            await self._engine.checkpoint(owned.partition, owned.epoch, owned.next_offset)
            owned.saved = owned.next_offset
        except Fenced as error:
            # Most often we are a zombie and a rebalance is about to tell us. But a claim that was slow to arrive can
            # fence the rightful owner, too, so ask the group, which knows, and claim again if it still says "yours".
            log.warning("checkpoint of %s refused (%s): forgetting its states", owned.partition, error)
            self._engine.drop(owned.partition)
            owned.ready = False
            self._start_takeover(owned, prove=True)

    # -- ownership ----------------------------------------------------------------------------------------------

    def assigned(self, partitions: Iterable[Partition]) -> None:
        """The group gave us `partitions`: all that we own from now on. Each opens when its takeover is complete."""
        self._draining = False
        self._announced = False
        self._owned = {partition: Owned(partition) for partition in sorted(partitions)}
        for owned in self._owned.values():
            self._start_takeover(owned)

    def _start_takeover(self, owned: Owned, *, prove: bool = False) -> None:
        owned.takeover = asyncio.create_task(self._take_over(owned, prove), name=f"takeover {owned.partition}")
        owned.takeover.add_done_callback(self._took_over)

    def _took_over(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = error
        elif not self._announced and self._owned and all(owned.ready for owned in self._owned.values()):
            self._announced = True
            log.info("ready: partitions %s", ", ".join(str(number) for _, number in self._owned))
        self._news.set()

    async def _take_over(self, owned: Owned, prove: bool) -> None:
        for delay_s in _delays():
            try:
                if prove:
                    await asyncio.sleep(FENCED_PAUSE_S)
                    await self._input.commit_offsets({owned.partition: owned.next_offset})
                await self._claim(owned)
                return
            except Rebalanced:
                async with self._busy:
                    self._lose([owned])
                return
            except (Fenced, *AWAY) as error:
                prove = isinstance(error, Fenced)
                log.warning("cannot take %s over yet: %s", owned.partition, error)
                await asyncio.sleep(delay_s)

    async def _claim(self, owned: Owned) -> None:
        """Fence the owner before us, bring the states up to the committed offset, and open the gate."""
        partition = owned.partition
        claim = await self._store.claim(partition, floor=owned.epoch)
        owned.epoch = claim.epoch
        committed = await self._input.committed(partition)  # after the rebalance nobody else can move it
        todo = plan(claim.next_offset, committed, await self._input.bounds(partition))
        if todo.why:
            log.warning("%s: %s", partition, todo.why)
        async with self._busy:
            self._engine.drop(partition)
            if todo.anew:
                await self._store.forget(partition, claim.epoch)
        if todo.start < todo.stop:
            async for records in self._input.reread(partition, todo.start, todo.stop):
                async with self._busy:
                    now = self._clock()
                    await self._engine.process(records, started_ms=now, fetched_ms=now, silent=True)
            log.info("%s: replayed [%d, %d)", partition, todo.start, todo.stop)
        owned.next_offset, owned.taken, owned.saved = todo.stop, todo.stop, todo.start
        owned.ready = True

    async def drain(self) -> None:
        """Before partitions go: finish the batch in flight, forget what waits. Takes in nothing until `assigned`."""
        self._draining = True
        self._forget(lambda owned: True)
        async with self._busy:  # so that no takeover is cancelled in the middle of the engine
            await self._settled()
            takeovers = [owned.takeover for owned in self._owned.values() if owned.takeover is not None]
            for task in takeovers:
                task.cancel()
        await asyncio.gather(*takeovers, return_exceptions=True)

    async def revoked(self, partitions: Iterable[Partition]) -> None:
        """Checkpoint these partitions and hand them over. What cannot be saved now, the next owner replays."""
        async with self._busy:
            await self._settled()
            leaving = [owned for partition in partitions if (owned := self._owned.pop(partition, None)) is not None]
            try:
                for owned in leaving:
                    if owned.ready and owned.taken == owned.next_offset > owned.saved:
                        await self._engine.checkpoint(owned.partition, owned.epoch, owned.next_offset)
            except (Fenced, *AWAY) as error:
                log.warning("handing over without a last checkpoint (%s): the next owner replays", error)
            self._lose(leaving)

    async def start(self) -> None:
        await self._output.start()

    async def close(self) -> None:
        await self._output.close()
        await self._store.close()

    def abandon(self) -> None:
        """After a failure: touch nothing more, so that whatever was in flight is read again by the next owner."""
        self._draining = True
        if self._finishing is not None:
            self._finishing.cancel()
        for owned in self._owned.values():
            owned.gone = True
            if owned.takeover is not None:
                owned.takeover.cancel()
        self._owned = {}
        self._forget(lambda owned: True)

    @property
    def partitions(self) -> list[Partition]:
        return list(self._owned)


def _delays() -> Iterator[float]:
    """Seconds to wait before each next try, for ever."""
    yield from RETRY_S
    while True:
        yield RETRY_S[-1]
