"""A checkpoint of several legs, and what goes wrong between two of them: the offset moves with the last leg and only if
every record is there, and whoever leaves memory is who was longest without a ping."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest
from engine_rig import CHECKPOINT, CRASH, DUMP, FAIL, WRITE, A, Rig, assert_same_answers, forecasts, ping
from faulty import FaultyFold, Worker, poison

from model.api import Predictor
from stream.engine.entities import snapshot
from stream.store.base import Item, MemoryStore, Partition
from stream.wire import Ping

Make = Callable[[], Predictor]
BUSES = 5


def rounds(count: int, start: int = 0) -> list[Ping]:
    """Pings of five buses, one after the other."""
    return [ping(f"bus-{n}", 10 * second) for second in range(start, start + count) for n in range(BUSES)]


@pytest.fixture(autouse=True)
def two_entities_a_leg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "LEG", 2)


@pytest.mark.parametrize("legs", [1, 2])
async def test_a_crash_between_two_legs_finds_the_offset_of_before(rig: Rig, make_predictor: Make, legs: int) -> None:
    calm = Rig(make_predictor)
    await calm.feed(*rounds(8))
    await rig.feed(*rounds(3), CHECKPOINT, *rounds(3, 3), *[DUMP, WRITE] * legs)
    assert (await rig.store.peek(A)).next_offset == 3 * BUSES
    await rig.feed(CRASH, *rounds(2, 6))
    assert_same_answers(rig.out, calm.out)


async def test_the_offset_does_not_pass_a_patch_that_found_no_record(rig: Rig, make_predictor: Make) -> None:
    """The last leg finds nothing to patch: the checkpoint is not done before that entity is written whole."""
    calm = Rig(make_predictor)
    await calm.feed(*rounds(8))
    await rig.feed(*rounds(3), CHECKPOINT, *rounds(3, 3))
    assert isinstance(rig.store, MemoryStore)
    del rig.store._records[A][f"bus-{BUSES - 1}"]
    await rig.feed(*[DUMP, WRITE] * 3)
    assert rig.leg is not None, "there is one more leg to come"
    assert (await rig.store.peek(A)).next_offset == 3 * BUSES
    await rig.feed(DUMP, WRITE)
    assert rig.leg is None
    assert (await rig.store.peek(A)).next_offset == 6 * BUSES
    await rig.feed(CRASH, *rounds(2, 6))
    assert_same_answers(rig.out, calm.out)


async def test_an_entity_whose_patch_found_no_record_is_written_by_the_next_checkpoint_if_this_one_ends(
    rig: Rig,
) -> None:
    await rig.feed(*rounds(3), CHECKPOINT, *rounds(1, 3))
    assert isinstance(rig.store, MemoryStore)
    del rig.store._records[A]["bus-0"]
    await rig.feed(DUMP, WRITE, FAIL, CHECKPOINT)
    assert "bus-0" in rig.store._records[A]
    assert (await rig.store.peek(A)).next_offset == 4 * BUSES


class Told(MemoryStore):
    """Writes down who is looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.looked_up: list[str] = []

    async def get_many(self, partition: Partition, entity_ids: Sequence[str]) -> list[bytes | None]:
        self.looked_up += entity_ids
        return await super().get_many(partition, entity_ids)


async def test_who_was_longest_without_a_ping_leaves_memory(make_predictor: Make) -> None:
    store = Told()
    rig = Rig(make_predictor, store)
    rig.max_resident = 2
    rig.engine = rig.started()
    await rig.feed(*(ping(name, 0) for name in ("first", "second", "third")), ping("first", 10), CHECKPOINT)
    store.looked_up.clear()
    await rig.feed(ping("third", 20), ping("first", 20))
    assert store.looked_up == [], "both are in memory"
    await rig.feed(ping("second", 20))
    assert store.looked_up == ["second"]


async def test_who_had_a_ping_while_a_checkpoint_was_written_stays_in_memory(make_predictor: Make) -> None:
    """The store does not have that ping yet: who came back from there would have lost it."""
    rig = Rig(make_predictor)
    rig.max_resident = 1
    rig.engine = rig.started()
    both = ("a", "b")
    await rig.feed(*(ping(name, 0) for name in both), DUMP, *(ping(name, 10) for name in both), WRITE)
    answers = forecasts(await rig.feed(*(ping(name, 20) for name in both)))
    assert [answer["window"]["n"] for answer in answers] == [3, 3]


class Written(MemoryStore):
    """Writes down who is in each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[list[str]] = []

    async def put_many(
        self, partition: Partition, epoch: int, next_offset: int | None, items: Mapping[str, Item]
    ) -> list[str]:
        self.writes.append(list(items))
        return await super().put_many(partition, epoch, next_offset, items)


async def test_a_quarantine_is_written_once_and_with_the_last_leg(make_predictor: Callable[..., Predictor]) -> None:
    store = Written()
    rig = Worker(lambda: make_predictor(kind=FaultyFold), store)
    await rig.feed(*rounds(2))
    await rig.batch(poison("bus-0", 20))
    await rig.feed(CHECKPOINT)
    assert len(store.writes) > 1, "it has several legs"
    assert [number for number, write in enumerate(store.writes, 1) if "bus-0" in write] == [len(store.writes)]
