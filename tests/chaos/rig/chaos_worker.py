"""A worker with something wrong in it: run by its path, as `python chaos_worker.py WRONG worker --...`; or a maker of
atlases, as `python chaos_worker.py WRONG,WRONG beside atlas --...`.

    clock=SECONDS   its clock is off by so much
    deaf            it sends no heartbeats, and so hears of no rebalance: a zombie that goes on working
    unsaved=COUNT   it answers so many records of a partition at most that no checkpoint has
    commit_first    offsets are committed before the answers are sent: a crash loses answers
    no_replay       a new owner does not fold in what the checkpoint lacks: windows have holes
    lead=SECONDS    versions that it announces begin so soon: a test has not a minute for each
    counts_twice    a new owner of a partition counts its log once more, beside what Redis has of it
    forgets         a new owner does not know with what the records before were counted: passages have holes

The two before `lead`, and the last two, are what delivery and the atlas are there to prevent, so that a test can show
that the judge would see it (`test_chaos_sabotage`). What is patched is looked for first: a sabotage that sabotages
nothing is an error.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

LATER_S: Final = 2.0  # how long after their commit `commit_first` sends answers


def clock(seconds: float) -> None:
    """Not libfaketime: it would have to be installed, and it moves the clocks that must not jump, too."""
    real = time.time
    time.time = lambda: real() + seconds


def deaf() -> None:
    from aiokafka.consumer.group_coordinator import GroupCoordinator

    async def no_heartbeat(self: GroupCoordinator) -> bool:
        return True

    assert hasattr(GroupCoordinator, "_do_heartbeat")
    GroupCoordinator._do_heartbeat = no_heartbeat


def unsaved(count: float) -> None:
    """So that a partition which no checkpoint takes comes to its bound within a feed."""
    from stream.delivery import checkpointer

    checkpointer.MAX_UNSAVED = int(count)  # type: ignore[misc]


def commit_first() -> None:
    from stream.kafka.producer import Publisher

    publish, sending = Publisher.publish, set()

    async def later(self: Publisher, outgoing: Sequence[Any]) -> None:
        await asyncio.sleep(LATER_S)
        await publish(self, outgoing)

    async def at_once(self: Publisher, outgoing: Sequence[Any]) -> None:
        task = asyncio.create_task(later(self, outgoing))
        sending.add(task)
        task.add_done_callback(sending.discard)

    Publisher.publish = at_once  # type: ignore[method-assign]


def no_replay() -> None:
    from stream.delivery.ownership import takeover_plan

    plan = takeover_plan.plan
    takeover_plan.plan = lambda *args, **kwargs: (made := plan(*args, **kwargs))._replace(start=made.stop)


def lead(seconds: float) -> None:
    from stream.versions.announcing import Announcer

    Announcer.open = partial(Announcer.open, lead_s=seconds)  # type: ignore[assignment,method-assign]


def counts_twice() -> None:
    from stream.store.days_store import DaysStore, Held

    claim = DaysStore.claim

    async def nothing_read(self: DaysStore, partition: Any) -> tuple[Held, None]:
        held, _ = await claim(self, partition)
        return replace(held, next_offset=None, seen=""), None

    DaysStore.claim = nothing_read  # type: ignore[method-assign]


def forgets() -> None:
    from stream.atlas.growing import PartitionGrowth

    assert hasattr(PartitionGrowth, "loads")
    PartitionGrowth.loads = lambda raw, without=(): PartitionGrowth(without)  # type: ignore[method-assign,assignment]


WRONG: Final[dict[str, Callable[[], None]]] = {
    one.__name__: one for one in (deaf, commit_first, no_replay, counts_twice, forgets)
}
BY_NUMBER: Final[dict[str, Callable[[float], None]]] = {one.__name__: one for one in (clock, unsaved, lead)}


def spoil(wrong: str) -> None:
    """Makes one thing wrong, as the table above names it."""
    name, has_number, number = wrong.partition("=")
    if has_number:
        BY_NUMBER[name](float(number))
    else:
        WRONG[name]()


if __name__ == "__main__":
    for wrong in sys.argv.pop(1).split(","):
        spoil(wrong)
    from stream.commands import main
    from stream.processes.child import end_with_parent

    end_with_parent()
    main.main()
