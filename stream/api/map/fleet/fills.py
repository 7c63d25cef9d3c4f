"""The newest gap fills of each entity, as what the page draws of them."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from stream.wire import Anchor, GapFill, GapPoint

MOST: Final = 4  # of one entity
MOST_NEWS: Final = 2_000  # that a page may still be told of; one that is slower loses the rest
MAX_POINTS: Final = 240  # of one fill, as many as a worker makes
_ENCODER: Final = msgspec.json.Encoder()


class Fill(NamedTuple):
    gap_id: str
    revision: int
    to_ts: int
    json: bytes


class News(NamedTuple):
    change: int
    entity_id: str
    json: bytes


class Fills:
    """The fills of a fleet. A retracted one is told without points, and then forgotten."""

    def __init__(self, most_entities: int, keep_ms: int) -> None:
        self._most = most_entities
        self._keep_ms = keep_ms
        self._by_id: OrderedDict[str, deque[Fill]] = OrderedDict()
        self._news: deque[News] = deque(maxlen=MOST_NEWS)
        self.change = 0  # the number of the last fill

    def __len__(self) -> int:
        return len(self._by_id)

    def update(self, fill: GapFill) -> bool:
        """Takes a record. Returns whether it says anything new: workers publish some again after a crash."""
        known = self._by_id.setdefault(fill.entity_id, deque(maxlen=MOST))
        self._by_id.move_to_end(fill.entity_id)
        old = next((one for one in known if one.gap_id == fill.gap_id), None)
        if old is not None and old.revision >= fill.revision:
            return False
        if old is not None:
            known.remove(old)
        raw = _json(fill)
        if fill.status != "retracted":
            known.append(Fill(fill.gap_id, fill.revision, fill.end.ts, raw))
        self.change += 1
        self._news.append(News(self.change, fill.entity_id, raw))
        while len(self._by_id) > self._most:
            self._by_id.popitem(last=False)
        return True

    def of(self, entity_id: str, now_ms: int) -> list[bytes]:
        """Returns the fills of an entity that ended within `keep_ms`, as JSON."""
        return [one.json for one in self._by_id.get(entity_id, ()) if one.to_ts >= now_ms - self._keep_ms]

    def since(self, change: int) -> Sequence[News]:
        """Returns what came after this change, as far as it is still known."""
        news: list[News] = []
        for one in reversed(self._news):
            if one.change <= change:
                break
            news.append(one)
        return news[::-1]

    def forget(self, entity_id: str) -> None:
        self._by_id.pop(entity_id, None)


def _json(fill: GapFill) -> bytes:
    places: list[Anchor | GapPoint] = []
    if fill.points:
        places = [fill.start, *fill.points[:MAX_POINTS], fill.end]
    fields = {
        "id": fill.entity_id,
        "gap_id": fill.gap_id,
        "from_ts": fill.start.ts,
        "to_ts": fill.end.ts,
        "final": fill.status != "provisional",
        "points": [(one.ts, one.lat, one.lon) for one in places],
    }
    return _ENCODER.encode(fields)
