"""Collects where entities lie: each in one partition, the one where murmur2 puts it, or not.

Neither is an error of the workers: they answer each partition as if it had entities of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from stream.config.wording import counted
from stream.kafka.partitioner import partition_of

EXAMPLES: Final = 5


@dataclass(eq=False)
class EntityPlaces:
    """Collects the entities of all partitions, some 150 bytes each."""

    partitions: int = 0  # of the topic; 0: unknown, and only entities in several partitions are found
    _first: dict[str, int] = field(default_factory=dict)  # the partition in which an entity was met first
    _several: dict[str, set[int]] = field(default_factory=dict)  # the partitions of those that lie in several

    def add(self, entity: str, partition: int) -> None:
        first = self._first.setdefault(entity, partition)
        if first != partition:
            self._several.setdefault(entity, {first}).add(partition)

    @property
    def seen(self) -> int:
        return len(self._first)

    @property
    def split(self) -> Mapping[str, list[int]]:
        """Returns the entities that lie in several partitions, and in which."""
        return {entity: sorted(numbers) for entity, numbers in self._several.items()}

    def elsewhere(self) -> Mapping[str, tuple[int, int]]:
        """Returns those that lie in one partition, which is not murmur2's, and both numbers."""
        found = {}
        for entity, number in self._first.items() if self.partitions else ():
            due = partition_of(entity.encode(), self.partitions)
            if due != number and entity not in self._several:
                found[entity] = number, due
        return found

    def split_in_words(self) -> str:
        """Returns how many lie in several partitions, with examples; empty if none does."""
        if not (split := self.split):
            return ""
        some = "; ".join(f"{one} in {', '.join(map(str, numbers))}" for one, numbers in _first_of(split).items())
        return f"{_lie(len(split))} in several partitions, each with a part of its pings ({some})"

    def elsewhere_in_words(self) -> str:
        """Returns how many lie elsewhere than murmur2 puts them, with examples; empty if none does."""
        if not (elsewhere := self.elsewhere()):
            return ""
        some = "; ".join(f"{one} in {here} and not {due}" for one, (here, due) in _first_of(elsewhere).items())
        return f"{_lie(len(elsewhere))} in another partition than murmur2 gives ({some})"

    def as_json(self) -> Mapping[str, Any]:
        split, elsewhere = self.split, self.elsewhere()
        return {
            "seen": self.seen,
            "in_several_partitions": len(split),
            "elsewhere_than_murmur2": len(elsewhere),
            "examples": [
                *({"entity": one, "partitions": numbers} for one, numbers in _first_of(split).items()),
                *(
                    {"entity": one, "partitions": [at], "murmur2": due}
                    for one, (at, due) in _first_of(elsewhere).items()
                ),
            ],
        }


def _lie(number: int) -> str:
    return f"{counted(number, 'entity', 'entities')} {'lies' if number == 1 else 'lie'}"


def _first_of(found: Mapping[str, Any]) -> dict[str, Any]:
    return dict(islice(found.items(), EXAMPLES))
