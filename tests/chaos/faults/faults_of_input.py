"""A feed can send pings that come a day late. Worlds of the simulation are too short for that."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Final

from bus_feed import Raw
from chaos_rig import Rig
from faults import fault

DAY: Final = 86_400  # seconds


@fault
def day_late_burst(rig: Rig) -> None:
    """A fifth of the entities were out of reach: what they sent comes in one burst after all else, a day late. A
    worker is killed, so that windows have to be read back, too."""
    rig.start(2)
    rig.feed(_burst(rig.fleet()), over_s=10)
    rig.reach(0.3)
    rig.kill(rig.rng.choice(rig.workers))
    rig.start()


def _burst(records: Iterable[Raw]) -> Iterator[Raw]:
    held: list[Raw] = []
    for record in records:
        key, value, headers = record
        if key is not None and sum(key) % 5 == 0:
            held.append((key, _a_day_earlier(value), headers))
        else:
            yield record
    yield from held


def _a_day_earlier(value: bytes | None) -> bytes | None:
    """The ping at its own time of the day before, so that it is a day behind the newest of its fleet."""
    try:
        ping = json.loads(value or b"")
        ping["ts"] -= DAY * 1000
    except (ValueError, TypeError, KeyError):
        return value  # one of the broken records
    return json.dumps(ping).encode()
