"""A row for each place: what was found and done there, or what nobody can remove singly, and until when it stays."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec
from kafka.errors import KafkaError

from stream.kafka import admin
from stream.wire import Topics

RETENTION: Final = "retention.ms"
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS


class Outcome(StrEnum):
    REMOVED = "removed"
    ABSENT = "absent"  # there was nothing
    FOUND = "found"  # and not touched: a dry run
    SENT = "sent"  # workers are told
    WAITS = "waits"  # nobody has done it yet; it will be done
    STAYS = "stays"  # until the place forgets it by itself
    FAILED = "failed"  # the place was not reached, or did not do it


class Finding(msgspec.Struct, frozen=True):
    """One place."""

    place: str
    outcome: Outcome
    found: str  # what was there
    note: str = ""  # what follows from it, or until when it stays

    @property
    def is_good(self) -> bool:
        return self.outcome not in (Outcome.FAILED, Outcome.WAITS)


# The places that this command does not reach, and what to do about each.
ELSEWHERE: Final = tuple(
    Finding(place, Outcome.STAYS, what, note)
    for place, what, note in (
        (
            "atlas, counts in Redis",
            "its last pings are dropped with its states, where `beside atlas` is at work",
            "sums by map cell name nobody and stay for --atlas-retention; to count without it: --anew --without",
        ),
        (
            "atlas, versions",
            "sums over the fleet, which name nobody",
            "published versions do not change: to retire one, delete its file and write a null value for its key",
        ),
        (
            "weights",
            "what training learnt of all",
            "weights of its days are replaced when `train refresh` trains on what is left",
        ),
        (
            "memory of serve, latest, scores, arrivals",
            "its last forecasts",
            "until they expire there, an hour by default, or the process starts again",
        ),
        (
            "trips under way",
            "where `beside transit` is at work",
            "it ends the entity's trip when it reads what the workers are told; older records go when compacted",
        ),
        ("what others took", "sinks, exports, subscribers, backups, senders of pings", "not in pathcast's reach"),
    )
)


def failed(place: str, error: Exception) -> Finding:
    """Returns the finding of a place that was not reached."""
    return Finding(place, Outcome.FAILED, "", " ".join(str(error).split()) or type(error).__name__)


def in_topics(client: Any, topics: Topics) -> Finding:
    """Returns for how long Kafka keeps what was sent and answered: it deletes no single records."""
    names = [topics.pings, topics.forecasts, topics.gapfills, topics.dead_letters, topics.scores, topics.arrivals]
    try:
        ages = admin.setting_of(client, names, RETENTION)
    except KafkaError:
        ages = {}
    what = "; ".join(f"{name} {in_words(kept_ms)}" for name, kept_ms in ages.items()) or "of unknown age"
    note = f"Kafka deletes it by age ({RETENTION}); shorten that to be sooner"
    return Finding("records in Kafka", Outcome.STAYS, what, note)


def in_words(kept_ms: int) -> str:
    if kept_ms < 0:
        return "for ever"
    number, unit = (kept_ms / _DAY_MS, "day") if kept_ms >= _DAY_MS else (kept_ms / _HOUR_MS, "hour")
    shown = f"{number:g}" if unit == "day" else f"{number:.2g}"
    return f"{shown} {unit}{'' if shown == '1' else 's'}"
