"""Reads messages of another system once more that became dead letters (`stream.ingest`), and publishes their pings.

For after a fix of a map. It works as `requeue` does for records: each message is read again once, whoever does it and
whenever they crash, because what is made of it and the mark are in one Kafka transaction. There is a mark for each code
and adapter. What still holds no ping becomes a new dead letter in the same transaction, beyond those that are read.

A message has a letter for each of its codes, and is read again once for all of them that are put back together. What it
held beside its rejects was published when it came, and is published again: a worker drops the second as a duplicate.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib.metadata import version
from typing import Final

from aiokafka import AIOKafkaProducer, TopicPartition

from stream.adapters.live.presets import Preset
from stream.commands.dlq.dead_letters import Box, Letter, check_codes, group_of, is_done
from stream.commands.dlq.requeue import CHUNK, transactional
from stream.ingest.publishing.sink import merge_rejects
from stream.wire import (
    Outgoing,
    Ping,
    Record,
    Reject,
    Topics,
    context_of,
    dead_letter,
    dumps,
)

NO_OFFSET: Final = -1  # of a message that never was a record


@dataclass(eq=False)
class Reread:
    """Holds what became, or would become, of the messages of one adapter."""

    messages: int = 0  # that were read again
    pings: int = 0  # that they hold now
    rejects: Counter[str] = field(default_factory=Counter)  # new dead letters, by code
    done: int = 0  # letters that were read again before
    copies: int = 0  # letters of a message for which another letter is read
    omitted: int = 0  # letters without their message, which was too large


class _Waiting:
    """What waits for the next transaction of one mark."""

    def __init__(self) -> None:
        self.made: list[Outgoing] = []
        self.after: dict[int, int] = {}  # by partition of the letters: the offset that is done then
        self.letters = 0


async def reread(box: Box, topics: Topics, known: Preset, codes: Collection[str], *, dry_run: bool) -> Reread:
    """Reads the messages of an adapter again whose letters have these codes (none: all). With `dry_run`, only counts.

    Raises:
        UnknownCode: no letter has one of the codes.
        RuntimeError: another replay has started meanwhile. It does the rest; nothing is done twice.
    """
    async with nullcontext() if dry_run else transactional(box) as producer:
        work = await _Work.begin(box, topics, known, codes)
        async with aclosing(box.letters()) as letters:
            async for letter in letters:
                if (mark := work.take(letter)) is not None and producer is not None and work.is_full(mark):
                    await work.send(producer, mark)
        for mark in work.waiting if producer is not None else ():
            await work.send(producer, mark)
        return work.found


class _Work:
    """One pass over the letters. All other replays are fenced: nobody else can mark a letter."""

    def __init__(
        self, box: Box, topics: Topics, known: Preset, codes: Collection[str], done: Mapping[str, Mapping[int, int]]
    ) -> None:
        self.found = Reread()
        self.waiting: dict[str, _Waiting] = {}
        self._box, self._topics, self._known, self._codes, self._done = box, topics, known, codes, done
        self._seen: set[bytes] = set()

    @classmethod
    async def begin(cls, box: Box, topics: Topics, known: Preset, codes: Collection[str]) -> _Work:
        present, marks = set[str](), set[str]()
        async with aclosing(box.letters()) as letters:
            async for letter in letters:
                present.add(letter.code)
                if letter.adapter == known.name:
                    marks.add(letter.mark)
        check_codes(codes, present, box.topic)
        return cls(box, topics, known, codes, await box.done(marks))

    def take(self, letter: Letter) -> str | None:
        """Takes a letter. Returns its mark if it is one of those that were asked for."""
        if letter.is_record or letter.adapter != self._known.name:
            return None
        message = blake2b(
            b"\0".join((letter.source.topic.encode(), str(_came_ms(letter)).encode(), letter.value or b"")),
            digest_size=16,
        ).digest()
        if self._codes and letter.code not in self._codes:
            return None
        waiting = self.waiting.setdefault(letter.mark, _Waiting())
        number, offset = letter.place
        waiting.after[number] = offset + 1
        if is_done(letter, self._done):
            self.found.done += 1
        elif not letter.whole:
            self.found.omitted += 1
        elif message in self._seen:
            self.found.copies += 1
        else:
            self._seen.add(message)
            waiting.made += self._read(letter)
            waiting.letters += 1
        return letter.mark

    def is_full(self, mark: str) -> bool:
        return self.waiting[mark].letters >= CHUNK

    async def send(self, producer: AIOKafkaProducer, mark: str) -> None:
        waiting, self.waiting[mark] = self.waiting[mark], _Waiting()
        await _send(producer, self._box.topic, mark, waiting.made, waiting.after)

    def _read(self, letter: Letter) -> list[Outgoing]:
        raw, came_ms = letter.value or b"", _came_ms(letter)
        src = Record(letter.source.topic, 0, NO_OFFSET, came_ms, None, raw)
        self.found.messages += 1
        made = []
        for one in merge_rejects(self._known.read(raw, came_ms)):
            if isinstance(one, Ping):
                self.found.pings += 1
                made.append(Outgoing(self._topics.pings, one.entity_id.encode(), dumps(one), (), src))
            else:
                self.found.rejects[one.code] += 1
                made.append(self._letter(src, one))
        return made

    def _letter(self, src: Record, reject: Reject) -> Outgoing:
        return dead_letter(self._box.topic, src, reject, version=version("pathcast"), adapter=self._known.name)


async def _send(
    producer: AIOKafkaProducer, topic: str, mark: str, made: Sequence[Outgoing], after: Mapping[int, int]
) -> None:
    """Sends one transaction: records, and up to which offset of each partition the letters of this mark are done."""
    if not after:
        return
    async with producer.transaction():
        pending = [await producer.send(one.topic, one.value, key=one.key, headers=list(one.headers)) for one in made]
        await asyncio.gather(*pending)
        offsets = {TopicPartition(topic, number): offset for number, offset in after.items()}
        await producer.send_offsets_to_transaction(offsets, group_of(topic, mark))


def _came_ms(letter: Letter) -> int:
    """Returns when the message came: what a map may take for the time of a ping."""
    said = context_of(letter.headers).get("timestamp", "")
    return int(said) if said.isdecimal() else letter.found_ms
