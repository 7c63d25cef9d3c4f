"""What one entity takes, however long and however often it reports."""

from __future__ import annotations

import sys
from typing import Any

from map_rig import T0, fleet_of, forecast, gapfill, publish

from stream.api.map.fleet.entity import MOST_COMPARED, MOST_FORMERS, POINTS
from stream.api.map.fleet.fleet import Fleet
from stream.api.map.streaming.view import View
from stream.wire import Branch, BranchPosition

SECONDS = 3_000
MOST_BYTES = 45_000  # README.md and --max-entities say it


def size(one: Any, seen: set[int]) -> int:
    """The bytes of an object and of all that it holds, each once."""
    if id(one) in seen or one is None or isinstance(one, type):
        return 0
    seen.add(id(one))
    parts: list[Any] = []
    if isinstance(one, dict):
        parts = [*one.keys(), *one.values()]
    elif hasattr(one, "__struct_fields__"):
        parts = [getattr(one, name) for name in one.__struct_fields__]
    elif hasattr(one, "__slots__") and not isinstance(one, tuple):
        parts = [getattr(one, name) for name in one.__slots__]
    elif not isinstance(one, str | bytes) and hasattr(one, "__iter__") and not hasattr(one, "typecode"):
        parts = list(one)
    return sys.getsizeof(one) + sum(size(part, seen) for part in parts)


def of_entity(fleet: Fleet, name: str) -> int:
    kept = [fleet.get(name), fleet.newest.forecast(name), fleet.fills._by_id[name], fleet._versions[name]]
    return size(kept, set())


def test_an_entity_takes_no_more_than_the_page_says_and_no_more_after_hours() -> None:
    fleet = fleet_of()
    places = tuple(BranchPosition(h_s, 30.0, -97.0) for h_s in (60.0, 300.0, 900.0))
    branches = (Branch(0.4, places), Branch(0.3, places), Branch(0.3, places))
    taken = []
    for second in range(0, SECONDS + 1, 2):
        to = tuple((h_s, 30.0 + (second + h_s) / 1e6, -97.0) for h_s in (60.0, 300.0, 900.0))
        ts = T0 + second * 1000
        publish(fleet, forecast("e", ts, 30.0 + second / 1e6, to=to, atlas="a" * 16, branches=branches), now_ms=ts)
        fleet.fill(gapfill("e", ts, ts + 1))
        if second in (SECONDS // 2, SECONDS):
            b"".join(View(fleet, None).delta(ts))  # which keeps what it told
            taken.append(of_entity(fleet, "e"))
    print(f"{taken[0]} and {taken[1]} bytes")
    assert 5_000 < taken[1] < MOST_BYTES
    assert taken[1] < 1.05 * taken[0], "it has stopped growing"
    entity = fleet.get("e")
    assert entity is not None
    counts = entity.counts()
    assert counts["points"] <= POINTS + 1
    assert counts["formers"] <= MOST_FORMERS
    assert counts["compared"] == MOST_COMPARED
