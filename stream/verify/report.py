"""Counts the findings, by partition and in total, with a few examples of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, NamedTuple, get_args

from stream.kafka.entity_places import EntityPlaces

EXAMPLES: Final = 5  # of each verdict: enough to see the pattern

Verdict = Literal[
    "lost",
    "duplicated",
    "different",
    "wrong_atlas",
    "wrong_weights",
    "unexpected",
    "states_different",
    "log_shortened",
    "orphaned",
    "retention",
]
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)
NAMES: Final[dict[Verdict, str]] = {verdict: verdict.replace("_", " ") for verdict in VERDICTS} | {
    "retention": "not answered: retention"
}
MEANING: Final[dict[Verdict, str]] = {
    "lost": "due, committed, and not there",
    "duplicated": "more than once to a read_committed reader",
    "different": "not what the input makes",
    "wrong_atlas": "an answer of another version than the models topic says, or a file that is not its version",
    "wrong_weights": "an answer of other weights than the models topic says",
    "unexpected": "nothing in the input makes it",
    "states_different": "a stored state that the input does not make, or none where one is due",
    "log_shortened": "a partition whose log no longer has what the group had answered",
    "orphaned": "an answer to a record that the log does not have, or has no more",
    "retention": "deleted before the group came to it",
}


class Example(NamedTuple):
    """One finding. The offset is the input record's if the answer names one, and otherwise the answer's in `topic`."""

    verdict: Verdict
    topic: str
    partition: int
    offset: int | None
    entity: str | None
    reason: str


@dataclass(eq=False)
class Tally:
    """The counts of one partition of the input."""

    records: int = 0  # judged
    warmup: int = 0  # replayed only to build the states
    forecasts: int = 0  # records answered by a forecast
    dead_letters: int = 0
    quarantined: int = 0  # of these: after a failed step or over the quota, which no replay can check
    unread: int = 0  # answered without the entity's stored state, which could not be read, as the answer states
    input_duplicates: int = 0  # no answer is due: the track has that ping
    gap_fills: int = 0
    open: int = 0  # answers due to records that the group has not committed: they may still come
    again: int = 0  # further copies of an answer, which at_least_once allows
    close: int = 0  # answers that differ within the tolerance, where a state may have been rebuilt
    other_model: int = 0  # answers of other weights: their numbers are not compared
    other_atlas: int = 0  # answers whose version of the atlas the replay could not ask: numbers are not compared
    late_atlas: int = 0  # answers that say that they could not wait to know which version is due
    late_weights: int = 0  # the same of the weights
    without_atlas: int = 0  # answers of workers without --atlases, which name no version
    unjudged: int = 0  # records of entities whose states began before the log, or that were in quarantine
    states: int = 0  # compared
    states_close: int = 0
    states_skipped: int = 0  # newer than the replay, expired, of other weights, in quarantine, or of unjudged entities
    lost: int = 0
    duplicated: int = 0
    different: int = 0
    wrong_atlas: int = 0
    wrong_weights: int = 0
    unexpected: int = 0
    states_different: int = 0
    log_shortened: int = 0  # 1 if the log was truncated
    orphaned: int = 0
    retention: int = 0  # offsets deleted unanswered


@dataclass(eq=False)
class Report:
    """The findings of all partitions. `notes` state what could not be judged, and why."""

    delivery: str
    tallies: dict[int, Tally] = field(default_factory=dict)
    strays: Tally = field(default_factory=Tally)  # answers to no partition that exists
    examples: list[Example] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    entities: EntityPlaces = field(default_factory=EntityPlaces)
    allowed: frozenset[Verdict] = frozenset()  # counted and shown, but not wrong
    seconds: float = 0.0
    _shown: Counter[Verdict] = field(default_factory=Counter)

    def tally(self, partition: int) -> Tally:
        return self.tallies.setdefault(partition, Tally())

    def blame(self, found: Example, times: int = 1) -> None:
        """Counts a finding for its partition, and keeps it as an example if there are few of its verdict."""
        tally = self.tallies.get(found.partition, self.strays)
        setattr(tally, found.verdict, getattr(tally, found.verdict) + times)
        self._shown[found.verdict] += 1
        if self._shown[found.verdict] <= EXAMPLES:
            self.examples.append(found)

    @property
    def total(self) -> Tally:
        total = Counter[str]()
        for tally in (*self.tallies.values(), self.strays):
            total.update(asdict(tally))
        return Tally(**total)

    @property
    def wrong(self) -> int:
        """The number of findings, without those that are allowed."""
        total = self.total
        return sum(getattr(total, verdict) for verdict in VERDICTS if verdict not in self.allowed)

    @property
    def ok(self) -> bool:
        return self.wrong == 0

    def as_json(self) -> Mapping[str, Any]:
        return {
            "ok": self.ok,
            "delivery": self.delivery,
            "total": asdict(self.total),
            "partitions": {str(number): asdict(tally) for number, tally in sorted(self.tallies.items())},
            "examples": [example._asdict() for example in self.examples],
            "notes": self.notes,
            "entities": self.entities.as_json(),
            "seconds": round(self.seconds, 3),
        }
