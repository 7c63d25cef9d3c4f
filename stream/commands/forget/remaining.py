"""What nobody can remove singly, and until when it stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from stream.commands.forget.findings import Finding, Outcome
from stream.wire import Topics

RETENTION: Final = "retention.ms"
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS


def in_topics(client: Any, topics: Topics) -> Finding:
    """Returns for how long Kafka keeps what was sent and answered: it deletes no single records."""
    names = [topics.pings, topics.forecasts, topics.gapfills, topics.dead_letters, topics.scores, topics.arrivals]
    found = [f"{name} {_in_words(kept_ms)}" for name, kept_ms in _retention_ms(client, names).items()]
    note = f"Kafka deletes it by age ({RETENTION}); shorten that to be sooner"
    return Finding("records in Kafka", Outcome.STAYS, "; ".join(found) or "of unknown age", note)


def elsewhere() -> list[Finding]:
    """Returns the places that this command does not reach, and what to do about each."""
    return [
        Finding(
            "atlas, counts in Redis",
            Outcome.STAYS,
            "its last pings are dropped with its states, where `atlas run` is at work",
            "sums by map cell name nobody and stay for --retention; to count without it: atlas run --anew --without",
        ),
        Finding(
            "atlas, versions",
            Outcome.STAYS,
            "sums over the fleet, which name nobody",
            "published versions do not change: to retire one, delete its file and write a null value for its key",
        ),
        Finding(
            "weights",
            Outcome.STAYS,
            "what training learnt of all",
            "weights of its days are replaced when `train refresh` trains on what is left",
        ),
        Finding(
            "memory of serve, latest, scores, arrivals",
            Outcome.STAYS,
            "its last forecasts",
            "until they expire there, an hour by default, or the process starts again",
        ),
        Finding(
            "what others took",
            Outcome.STAYS,
            "sinks, exports, subscribers, backups, senders of pings",
            "not in pathcast's reach",
        ),
    ]


def _retention_ms(client: Any, names: list[str]) -> Mapping[str, int]:
    """Returns for how long topics keep records. Those that do not exist, or may not be described, are left out."""
    try:
        present = set(client.list_topics())
        asked = [ConfigResource(ConfigResourceType.TOPIC, name, {RETENTION: None}) for name in names if name in present]
        found = client.describe_configs(asked, config_filter="all").get("topic", {}) if asked else {}
    except KafkaError:
        return {}
    return {name: int(settings[RETENTION]["value"]) for name, settings in found.items() if RETENTION in settings}


def _in_words(kept_ms: int) -> str:
    if kept_ms < 0:
        return "for ever"
    number, unit = (kept_ms / _DAY_MS, "day") if kept_ms >= _DAY_MS else (kept_ms / _HOUR_MS, "hour")
    shown = f"{number:g}" if unit == "day" else f"{number:.2g}"
    return f"{shown} {unit}{'' if shown == '1' else 's'}"
