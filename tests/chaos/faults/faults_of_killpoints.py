"""SIGKILL of a worker by itself, between two writes of delivery (`stream.config.failpoints`): at the moment that would
cost most, and in the one that no world of the simulation comes to. Worlds kill at each of the others."""

from __future__ import annotations

from typing import Final

from chaos_rig import Rig
from faults import fault

CROWD: Final = 80  # times as many entities as a feed of that size has
CROWDED: Final = 20_000  # pings, so that a partition has two thousand entities, of which half an interval has enough
BATCHES: Final = 200  # of a whole feed at least: a victim has half of the partitions, and dies in its 20th or before


@fault
def killed_after_publish(rig: Rig) -> None:
    """A worker of two kills itself (SIGKILL) when the broker has every answer of a batch, and no offset."""
    # However late it comes to its partitions, and finds the whole feed waiting: many batches.
    times = rig.rng.randint(1, 20)
    (victim,) = rig.start(kill_point=f"after_publish:{times}", max_batch=rig.pings // BATCHES)
    rig.start()
    rig.feed(rig.fleet())
    rig.wait_for_death(victim)
    rig.start()


@fault
def killed_within_checkpoint(rig: Rig) -> None:
    """A worker of two kills itself (SIGKILL) when one call to Redis of several has written a piece of a checkpoint of
    more than 1 MiB, and the offset has not moved."""
    rig.pings = max(rig.pings, CROWDED)
    (victim,) = rig.start(kill_point="within_checkpoint", checkpoint_ms=10_000)
    rig.start(checkpoint_ms=10_000)
    rig.feed(rig.fleet(times=CROWD), over_s=12)
    rig.wait_for_death(victim)
    rig.start()
