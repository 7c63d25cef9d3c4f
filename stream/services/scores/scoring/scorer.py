"""Scores the forecasts of one partition against the pings that its later forecasts start from. It has no clock of its
own, and knows nothing of Kafka.

The same records give the same scores, and so do the records from `oldest()` on: whoever takes a partition over reads
those again, without publishing, and goes on as if nothing had happened.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final, NamedTuple

import msgspec

from stream.services.scores.scoring.clock import NEVER_MS, Clock, Mark
from stream.services.scores.scoring.waiting import Entity, ScoringRules
from stream.wire import Score, loads_forecast
from stream.wire.positions import is_possible

# Of a partition. 100,000 whose cadence is a minute have 23 forecasts of 1.7 KB each that wait, 4 GB together.
MAX_ENTITIES: Final = 100_000


class Standing(NamedTuple):
    """How much waits now."""

    entities: int
    forecasts: int


class Scorer:
    """One partition's forecasts that wait, and the scores that come of them."""

    def __init__(self, rules: ScoringRules, *, start: Mark | None = None, max_entities: int = MAX_ENTITIES) -> None:
        """`start` is where the records begin, and the event time there, if these are not the first."""
        self._rules = rules
        self._clock = Clock() if start is None else Clock.of(start)
        self._entities: OrderedDict[str, Entity] = OrderedDict()  # the one that was heard last is last
        self._max_entities = max_entities
        self.counts: Counter[str] = Counter()  # records by what they were; and entities by why they were forgotten

    def fold(self, offset: int, raw: bytes | None) -> list[Score]:
        """Takes the next record, and returns the scores that are decided by it."""
        try:
            forecast = loads_forecast(raw or b"")
        except msgspec.DecodeError:
            self.counts["unreadable"] += 1
            return []
        if not is_possible(forecast):
            self.counts["unreadable"] += 1
            return []
        assert raw is not None
        mark, name = self._clock.at(offset), forecast.entity_id
        self._clock = self._clock.after(name, forecast.anchor.ts)
        scores = self._silent()
        entity = self._entities.get(name)
        if entity is not None and entity.begins_anew(forecast):
            scores += self._forget(name, "anew")
            entity = None
        if entity is None:
            entity = self._entities[name] = Entity(self._rules)
        self.counts[entity.wait_for(forecast, raw, mark)] += 1
        entity.heard_ms = self._clock.now_ms
        self._entities.move_to_end(name)
        scores += entity.due()
        while len(self._entities) > self._max_entities:
            scores += self._forget(next(iter(self._entities)), "evicted")
        return scores

    def oldest(self) -> Mark | None:
        """Returns where the records begin that all that waits can be made of again; None if nothing waits."""
        marks = [mark for entity in self._entities.values() if (mark := entity.oldest) is not None]
        return min(marks, key=lambda mark: mark.offset, default=None)

    def standing(self) -> Standing:
        return Standing(len(self._entities), sum(entity.waiting for entity in self._entities.values()))

    @property
    def clock(self) -> Clock:
        return self._clock

    def _silent(self) -> list[Score]:
        """Gives up what waits for entities that said nothing while the partition went on by the rules' span."""
        scores: list[Score] = []
        while self._entities:
            name = next(iter(self._entities))
            if self._entities[name].heard_ms == NEVER_MS:  # the partition's first one, until a second one has come
                self._entities[name].heard_ms = self._clock.now_ms
            if self._clock.now_ms - self._entities[name].heard_ms < self._rules.span_ms:
                break
            scores += self._forget(name, "silent")
        return scores

    def _forget(self, name: str, why: str) -> list[Score]:
        self.counts[why] += 1
        return self._entities.pop(name).give_up()
