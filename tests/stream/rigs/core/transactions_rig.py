"""Delivery under exactly_once, with the broker of `delivery_rig` and transactions in memory. They know no group: a
transaction of a worker that has lost its partition succeeds, as one of aiokafka's does."""

from __future__ import annotations

import asyncio

from aiokafka.errors import ProducerFenced
from delivery_rig import SETTINGS, Kafka

from model.api import Predictor
from stream.delivery.delivery import Delivery
from stream.delivery.guarantees import ExactlyOnce
from stream.delivery.partitions import InputLog
from stream.engine.engine import Engine
from stream.kafka.log import CommittedOffset, Partition
from stream.kafka.records.encoded_batches import Answers
from stream.store.base import Store


class Transactions(Kafka):
    """A broker that settles transactions only when it is told, and takes them from the newest producer of an id."""

    def __init__(self) -> None:
        super().__init__()
        self.settles = asyncio.Event()
        self.settles.set()
        self.newest: dict[str, Producer] = {}
        self.made: list[Producer] = []  # in the order in which they fenced each other

    def producer(self, transactional_id: str) -> Producer:
        return Producer(self, transactional_id)


class Producer:
    def __init__(self, kafka: Transactions, transactional_id: str) -> None:
        self._kafka, self._id = kafka, transactional_id
        self.closed = False

    async def start(self) -> None:
        await asyncio.sleep(0)
        self._kafka.newest[self._id] = self
        self._kafka.made.append(self)

    async def close(self) -> None:
        self.closed = True

    async def transact(self, answers: Answers, partition: Partition, mark: CommittedOffset, group: str) -> None:
        await self._kafka.settles.wait()
        if self._kafka.newest[self._id] is not self:
            raise ProducerFenced
        self._kafka.published += answers
        self._kafka.keep(partition, mark)


def exactly_once(kafka: Transactions, store: Store, input_log: InputLog | None = None) -> Delivery:
    """A worker. With an `input_log`, a `Member`, it is one of several of its group."""
    engine = Engine(Predictor.untrained(capacity=8), store, SETTINGS)
    log = input_log or kafka
    return Delivery(SETTINGS, engine, store, ExactlyOnce("group", log, kafka.producer), log)
