"""SIGKILL around each write of delivery, by the worker itself. The table in `stream.config.failpoints` is the table
here."""

from __future__ import annotations

from typing import Final

from chaos_rig import Rig
from faults import Fault, register

from stream.config import failpoints

# When a partition is taken over, and so once a partition; the others come with every batch or checkpoint.
TAKEOVER: Final = ("after_fence", "after_claim", "before_replay")
CHECKPOINT: Final = ("before_checkpoint", "after_checkpoint")
LARGE: Final = ("within_checkpoint", "between_legs")  # of a checkpoint of more than 1 MiB, or of more than 512 entities
CROWD: Final = 80  # times as many entities as a feed of that size has
CROWDED: Final = 20_000  # pings, so that a partition has two thousand entities, of which half an interval has enough
BATCHES: Final = 200  # of a whole feed at least: a victim has half of the partitions, and dies in its 20th or before
ONCE_ONLY: Final = ("after_fence", "before_end")  # of transactions


def _inject(rig: Rig, point: str) -> None:
    if point in LARGE:  # many entities at once
        rig.pings = max(rig.pings, CROWDED)
        (victim,) = rig.start(kill_point=point, checkpoint_ms=10_000)
        rig.start(checkpoint_ms=10_000)
        rig.feed(rig.fleet(times=CROWD), over_s=12)
    elif point in TAKEOVER:
        rig.start()
        rig.feed(rig.fleet())
        rig.reach(0.3)
        (victim,) = rig.start(kill_point=f"{point}:{rig.rng.randint(1, 2)}")
    else:
        # However late it comes to its partitions, and finds the whole feed waiting: many batches, many checkpoints.
        often = {"checkpoint_ms": 200} if point in CHECKPOINT else {"max_batch": rig.pings // BATCHES}
        times = rig.rng.randint(1, 4 if point in CHECKPOINT else 20)
        (victim,) = rig.start(kill_point=f"{point}:{times}", **often)
        rig.start()
        rig.feed(rig.fleet())
    rig.wait_for_death(victim)
    rig.start()


def _register(point: str, what: str) -> None:
    deliveries = ("exactly_once",) if point in ONCE_ONLY else ("exactly_once", "at_least_once")
    text = f"A worker of two kills itself (SIGKILL) at `{point}`: {what}."
    register(Fault(f"killed_{point}", text, lambda rig: _inject(rig, point), deliveries=deliveries))


for _point, _what in failpoints.NAMES.items():
    _register(_point, _what)
