"""The one way from an adapter into Kafka: pings to the pings topic, rejects to the dead letter topic.

`take` returns when the brokers have acknowledged all that it was given, so that a transport can acknowledge to its
source what is safe. It may put a ping twice, after an answer that was lost; a worker drops the second as a duplicate.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from stream.adapters.live.parsed import Parsed, Skip
from stream.config.security import PLAIN_KAFKA, KafkaSecurity, kafka_refusal
from stream.kafka import admin
from stream.wire import MAX_DEAD_LETTER_BYTES, Ping, Record, Reject, Topics, dead_letter, dumps

log: Final = logging.getLogger(__name__)

ACK_S: Final = 10.0  # a record that the brokers have not acknowledged by then counts as not taken
MAX_WAITING: Final = 20_000  # records that wait for an acknowledgement; beyond them `take` says at once that it is full
NO_OFFSET: Final = -1  # of the dead letter of a message that never was a record


class Unavailable(ConnectionError):
    """Kafka does not take records now. Nothing of what was given is acknowledged; give it again later."""


@dataclass
class Taken:
    """The counts of what a sink was given so far."""

    pings: int = 0
    rejects: Counter[str] = field(default_factory=Counter)  # by code
    skips: Counter[str] = field(default_factory=Counter)  # by why
    refused: int = 0  # calls of `take` that raised Unavailable


class Sink:
    """Publishes what adapters have read. Use it as an async context manager."""

    def __init__(self, bootstrap: str, topics: Topics, adapter: str, *, security: KafkaSecurity = PLAIN_KAFKA) -> None:
        """`adapter` names the format, in the dead letters."""
        self.taken = Taken()
        self._bootstrap = bootstrap
        self._topics = topics
        self._adapter = adapter
        self._security = security
        self._version = version("pathcast")
        self._waiting = 0
        self._room = asyncio.Event()  # set while fewer than MAX_WAITING wait
        self._room.set()
        self._failed_s: float | None = None  # when the last records failed, until some are acknowledged again
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap.split(","),
            **security.arguments(),
            acks="all",
            enable_idempotence=True,
            linger_ms=5,
            max_batch_size=256 * 1024,
            max_request_size=MAX_DEAD_LETTER_BYTES,
            request_timeout_ms=int(ACK_S * 1000),
        )

    async def __aenter__(self) -> Sink:
        """Connects. Raises Refused if a broker denies access, ConnectionError if none answers, ValueError if a topic is
        missing."""
        await asyncio.to_thread(self._check_topics)
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(KafkaError, TimeoutError):
            await asyncio.wait_for(self._producer.stop(), ACK_S)

    @property
    def is_available(self) -> bool:
        """Whether Kafka took the last records that it was given, and there is room for more."""
        return self._failed_s is None and self._waiting < MAX_WAITING

    async def take(self, parsed: Sequence[Parsed], raw: bytes, origin: str) -> None:
        """Publishes pings and rejects, and returns when the brokers have acknowledged all of them.

        `raw` is the message that they were read from, which the dead letters hold byte-identical; `origin` says where
        it came from, such as "http:/webhook/samsara" or "mqtt:owntracks/jo/phone", and must hold no secret.

        Raises Unavailable, and Refused if a broker denies access.
        """
        records = [found for one in parsed if (found := self._record(one, raw, origin)) is not None]
        if self._waiting + len(records) > MAX_WAITING and self._waiting:
            self.taken.refused += 1
            raise Unavailable(f"{self._waiting:,} records wait for Kafka already")
        self._wait_for(len(records))
        try:
            await self._publish(records)
        except (KafkaError, TimeoutError) as error:
            self.taken.refused += 1
            self._note_failure(error)
            refusal = kafka_refusal(self._bootstrap, self._security, error)
            raise refusal or Unavailable(f"Kafka at {self._bootstrap} takes no records: {_in_words(error)}") from error
        finally:
            self._wait_for(-len(records))
        if records:
            self._note_success()
        self._count(parsed)

    async def wait_until_available(self, *, every_s: float = 1.0) -> None:
        """Returns when Kafka answers again, for a transport that stops reading meanwhile."""
        while self._failed_s is not None:
            try:
                async with asyncio.timeout(ACK_S):
                    await self._producer.client.fetch_all_metadata()
                    await self._producer.partitions_for(self._topics.pings)
                self._note_success()
            except (KafkaError, TimeoutError, OSError):
                await asyncio.sleep(every_s)
        await self._room.wait()

    def _check_topics(self) -> None:
        with admin.connected(self._bootstrap, self._security) as client:
            for topic in (self._topics.pings, self._topics.dead_letters):
                admin.partitions_of(client, topic)

    def _record(self, one: Parsed, raw: bytes, origin: str) -> dict[str, Any] | None:
        if isinstance(one, Skip):
            return None
        if isinstance(one, Ping):
            return {"topic": self._topics.pings, "key": one.entity_id.encode(), "value": dumps(one)}
        src = Record(origin, 0, NO_OFFSET, time.time_ns() // 1_000_000, None, raw)
        letter = dead_letter(self._topics.dead_letters, src, one, version=self._version, adapter=self._adapter)
        return {"topic": letter.topic, "key": letter.key, "value": letter.value, "headers": list(letter.headers)}

    def _wait_for(self, more: int) -> None:
        self._waiting += more
        (self._room.set if self._waiting < MAX_WAITING else self._room.clear)()

    async def _publish(self, records: Sequence[dict[str, Any]]) -> None:
        async with asyncio.timeout(ACK_S):
            sent = [await self._send(record) for record in records]
            outcomes = await asyncio.gather(*sent, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _send(self, record: dict[str, Any]) -> asyncio.Future[Any]:
        try:
            future: asyncio.Future[Any] = await self._producer.send(**record)
        except MessageSizeTooLargeError:  # a letter never is: `dead_letter` leaves the value out; nor is a ping
            raise AssertionError(f"a record of {len(record['value'] or b'')} bytes") from None
        return future

    def _count(self, parsed: Sequence[Parsed]) -> None:
        for one in parsed:
            if isinstance(one, Ping):
                self.taken.pings += 1
            elif isinstance(one, Reject):
                self.taken.rejects[one.code] += 1
            else:
                self.taken.skips[one.why] += 1

    def _note_failure(self, error: BaseException) -> None:
        if self._failed_s is None:
            log.warning("Kafka at %s takes no records: %s", self._bootstrap, _in_words(error))
            self._failed_s = time.monotonic()

    def _note_success(self) -> None:
        if self._failed_s is not None:
            log.info(
                "Kafka at %s takes records again, after %.0f s", self._bootstrap, time.monotonic() - self._failed_s
            )
            self._failed_s = None


def _in_words(error: BaseException) -> str:
    return str(error) or type(error).__name__
