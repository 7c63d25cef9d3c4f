"""The coordinator of transactions, as Apache Kafka's (TransactionCoordinator), for clients as old as aiokafka: they
send EndTxn below version 5, so that no end raises the epoch, and get INVALID_PRODUCER_EPOCH when fenced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from aiokafka.errors import (
    ConcurrentTransactions,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidRequestError,
    InvalidTransactionTimeout,
    InvalidTxnState,
)

EMPTY, ONGOING = "Empty", "Ongoing"
PREPARE_COMMIT, PREPARE_ABORT = "PrepareCommit", "PrepareAbort"
COMPLETE_COMMIT, COMPLETE_ABORT = "CompleteCommit", "CompleteAbort"
_PREPARED = (PREPARE_COMMIT, PREPARE_ABORT)
MOST_TIMEOUT_S = 900.0  # transaction.max.timeout.ms
SWEEP_S = 10.0  # how often old transactions are looked for: transaction.abort.timed.out.transaction.cleanup.interval.ms
MAX_EPOCH = 32_766  # after it, a transactional id gets another producer id

Target = tuple[str, int] | str  # a partition, or a group whose offsets the transaction commits


class ProducerId(NamedTuple):
    producer_id: int
    epoch: int


@dataclass
class Transactional:
    """What is known of one transactional id."""

    producer_id: int
    epoch: int = -1
    timeout_s: float = 60.0
    state: str = EMPTY
    targets: set[Target] = field(default_factory=set)  # those without a marker, once the end is decided
    began_at: float = 0.0


class Transactions:
    """All transactional ids. `write` writes one marker: target, producer id, epoch, commit or not; it returns False
    where it cannot be written now."""

    def __init__(self, write: Callable[[Target, int, int, bool], bool], first_producer_id: int = 0) -> None:
        self._write = write
        self._next_id = first_producer_id
        self._known: dict[str, Transactional] = {}
        self._swept_at: float | None = None
        self.markers_at_once = True  # else they wait for `complete`

    # -- requests

    def init_producer_id(self, now: float, transactional_id: str | None, timeout_s: float) -> ProducerId:
        """Raises ConcurrentTransactions while the last transaction is not complete; one that is open is aborted."""
        if transactional_id is None:
            return ProducerId(self._new_id(), 0)
        if not transactional_id:
            raise InvalidRequestError
        if not 0 < timeout_s <= MOST_TIMEOUT_S:
            raise InvalidTransactionTimeout
        known = self._known.get(transactional_id)
        if known is None:
            known = self._known[transactional_id] = Transactional(self._new_id())
        elif known.state in _PREPARED:
            raise ConcurrentTransactions
        elif known.state == ONGOING:
            self._fence(known)
            raise ConcurrentTransactions
        known.timeout_s = timeout_s
        known.state, known.epoch = EMPTY, known.epoch + 1
        if known.epoch > MAX_EPOCH:
            known.producer_id, known.epoch = self._new_id(), 0
        return ProducerId(known.producer_id, known.epoch)

    def add(self, now: float, transactional_id: str, producer: ProducerId, targets: Iterable[Target]) -> None:
        """Adds partitions or a group to the transaction, and begins it with the first."""
        known = self._validate(transactional_id, producer)
        if known.state in _PREPARED:
            raise ConcurrentTransactions
        if self._swept_at is None:
            self._swept_at = now
        if known.state != ONGOING:
            known.state, known.targets, known.began_at = ONGOING, set(), now
        known.targets.update(targets)

    def end(self, transactional_id: str, producer: ProducerId, commit: bool) -> None:
        """Decides the end; markers follow. Raises ConcurrentTransactions while they do, InvalidTxnState if there is no
        transaction, or if it has ended the other way."""
        known = self._validate(transactional_id, producer)
        if known.state == ONGOING:
            self._decide(known, commit)
        elif known.state == (PREPARE_COMMIT if commit else PREPARE_ABORT):
            raise ConcurrentTransactions
        elif known.state != (COMPLETE_COMMIT if commit else COMPLETE_ABORT):
            raise InvalidTxnState

    def verify(self, transactional_id: str | None, producer: ProducerId, target: Target) -> None:
        """Returns if the open transaction has the target: so a leader asks before the first batch (KIP-890). Raises
        ConcurrentTransactions, InvalidTxnState and as `add`."""
        known = self._validate(transactional_id, producer)
        if known.state in _PREPARED:
            raise ConcurrentTransactions
        if known.state != ONGOING or target not in known.targets:
            raise InvalidTxnState

    # -- ends

    def sweep(self, now: float) -> None:
        """Aborts the transactions that are too old, as often as the coordinator looks: up to SWEEP_S late."""
        if self._swept_at is None:
            self._swept_at = now
        while now >= self._swept_at + SWEEP_S:
            self._swept_at += SWEEP_S
            for known in self._known.values():
                if known.state == ONGOING and known.began_at + known.timeout_s < self._swept_at:
                    self._fence(known)

    def next_deadline(self) -> float | None:
        if self._swept_at is None or all(one.state != ONGOING for one in self._known.values()):
            return None
        return self._swept_at + SWEEP_S

    def pending_markers(self) -> list[tuple[str, Target]]:
        """Returns the markers that are decided and not written: transactional id and target."""
        return [
            (name, target)
            for name, one in self._known.items()
            if one.state in _PREPARED
            for target in sorted(one.targets, key=str)
        ]

    def complete(self, transactional_id: str | None = None, target: Target | None = None) -> None:
        """Writes markers that are decided: all, those of one id, or one of them."""
        for name, known in self._known.items():
            if known.state in _PREPARED and transactional_id in (None, name):
                self._complete(known, target)

    def state_of(self, transactional_id: str) -> str | None:
        known = self._known.get(transactional_id)
        return None if known is None else known.state

    # -- within

    def _validate(self, transactional_id: str | None, producer: ProducerId) -> Transactional:
        known = self._known.get(transactional_id or "")
        if known is None or known.producer_id != producer.producer_id:
            raise InvalidProducerIdMapping(f"{transactional_id} has not producer {producer.producer_id}")
        if known.epoch != producer.epoch:
            raise InvalidProducerEpoch(f"{transactional_id} has epoch {known.epoch}, this is {producer.epoch}")
        return known

    def _fence(self, known: Transactional) -> None:
        """Aborts a transaction that is open, and fences whoever had begun it. The end raises the epoch no second time:
        that depends on the client's version of transactions, and not on the cluster's."""
        known.epoch += 1
        self._decide(known, commit=False)

    def _decide(self, known: Transactional, commit: bool) -> None:
        known.state = PREPARE_COMMIT if commit else PREPARE_ABORT
        if self.markers_at_once:
            self._complete(known, None)

    def _complete(self, known: Transactional, only: Target | None) -> None:
        commit = known.state == PREPARE_COMMIT
        for target in sorted(known.targets, key=str) if only is None else [only] if only in known.targets else []:
            if self._write(target, known.producer_id, known.epoch, commit):
                known.targets.discard(target)
        if not known.targets:
            known.state = COMPLETE_COMMIT if commit else COMPLETE_ABORT

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1
