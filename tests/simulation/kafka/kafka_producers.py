"""Holds what one partition knows of its producers: epochs and the sequences of their last batches (KIP-98)."""

from __future__ import annotations

from aiokafka.errors import InvalidProducerEpoch, OutOfOrderSequenceNumber

KNOWN_BATCHES = 5  # of each producer: ProducerStateEntry.NUM_BATCHES_TO_RETAIN
_SEQUENCES = 2**31  # after the last, sequences begin at 0 again
NO_SEQUENCE = -1


class _Producer:
    __slots__ = ("batches", "epoch")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.batches: list[tuple[int, int, int]] = []  # first sequence, last sequence, base offset; oldest first


class ProducerStates:
    """The producers that have written to a partition. A broker forgets one after a day of silence; a world is
    shorter."""

    def __init__(self) -> None:
        self._known: dict[int, _Producer] = {}

    def epoch_of(self, producer_id: int) -> int | None:
        known = self._known.get(producer_id)
        return None if known is None else known.epoch

    def find_duplicate(self, producer_id: int, epoch: int, first: int, last: int) -> int | None:
        """Returns the base offset of the same batch, if it is one of the last five of its producer."""
        known = self._known.get(producer_id)
        if known is None or known.epoch != epoch:
            return None
        return next((base for a, b, base in known.batches if a == first and b == last), None)

    def check(self, producer_id: int, epoch: int, first: int) -> None:
        """Raises InvalidProducerEpoch of a producer that is fenced, OutOfOrderSequenceNumber."""
        known = self._known.get(producer_id)
        if known is None:
            return  # any sequence: retention or a new topic may have taken what the producer wrote before
        if epoch < known.epoch:
            raise InvalidProducerEpoch(f"producer {producer_id} has epoch {known.epoch}, this is {epoch}")
        goes_on = epoch == known.epoch and known.batches
        wanted = (known.batches[-1][1] + 1) % _SEQUENCES if goes_on else 0
        if first != wanted:
            raise OutOfOrderSequenceNumber(f"producer {producer_id} sent {first}, expected {wanted}")

    def note(self, producer_id: int, epoch: int, first: int, last: int, base: int) -> None:
        """Notes a batch that is appended."""
        known = self._renew(producer_id, epoch)
        known.batches.append((first, last, base))
        del known.batches[:-KNOWN_BATCHES]

    def note_marker(self, producer_id: int, epoch: int) -> None:
        """Notes the end of a transaction; with a newer epoch, it fences those who have the old one."""
        self._renew(producer_id, epoch)

    def _renew(self, producer_id: int, epoch: int) -> _Producer:
        known = self._known.get(producer_id)
        if known is None or known.epoch < epoch:
            known = self._known[producer_id] = _Producer(epoch)
        return known
