"""A worker with something wrong in it: run by its path, as `python chaos_worker.py WRONG worker --...`.

    clock=SECONDS   its clock is off by so much
    deaf            it sends no heartbeats, and so hears of no rebalance: a zombie that goes on working
    unsaved=COUNT   it answers so many records of a partition at most that no checkpoint has
    commit_first    offsets are committed before the answers are sent: a crash loses answers
    no_fence        Redis takes checkpoints of any epoch: a zombie spoils states
    no_replay       a new owner does not fold in what the checkpoint lacks: windows have holes

The last three are what delivery is there to prevent, so that a test can show that the verifier would see it
(`test_chaos_sabotage`). What is patched is looked for first: a sabotage that sabotages nothing is an error.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
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


def unsaved(count: int) -> None:
    """So that a partition which no checkpoint takes comes to its bound within a feed."""
    from stream.delivery import checkpointer

    checkpointer.MAX_UNSAVED = count  # type: ignore[misc]


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


def no_fence() -> None:
    from stream.store import redis_store as store

    fence = "if stored == tonumber(ARGV[1]) and writes >= tonumber(ARGV[2]) then"
    assert fence in store.PUT
    store.PUT = store.PUT.replace(fence, "if true then")  # type: ignore[misc]
    store.refuse_unless_current = lambda *_, **__: None


def no_replay() -> None:
    from stream.delivery.ownership import takeover_plan

    plan = takeover_plan.plan
    takeover_plan.plan = lambda *args, **kwargs: (made := plan(*args, **kwargs))._replace(start=made.stop)


WRONG: Final[dict[str, Callable[[], None]]] = {one.__name__: one for one in (deaf, commit_first, no_fence, no_replay)}


if __name__ == "__main__":
    wrong = sys.argv.pop(1)
    if wrong.startswith("clock="):
        clock(float(wrong.removeprefix("clock=")))
    elif wrong.startswith("unsaved="):
        unsaved(int(wrong.removeprefix("unsaved=")))
    else:
        WRONG[wrong]()
    from stream.commands import main
    from stream.worker import process_pool

    process_pool.end_with_parent()
    main.main()
