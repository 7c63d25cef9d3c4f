"""Writes and shows the records of destinations and arrivals, with kafka-python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kafka import KafkaProducer
from kafka.errors import KafkaError

from stream.config.options import utc
from stream.config.security import KafkaSecurity, kafka_refusal
from stream.kafka import admin
from stream.wire import Topics
from stream.wire.arrivals import Arrival, Arrived, Inside, loads_arrival
from stream.wire.escape import escaped

DELIVERY_S: Final = 30.0  # a record that the broker has not acknowledged by then has failed


def put(bootstrap: str, topics: Topics, security: KafkaSecurity, records: Mapping[str, bytes | None]) -> None:
    """Writes records to the destinations topic, by key, and waits until the broker has them; creates the topic, if it
    is absent. None takes a key's record back.

    Raises ConnectionError if no broker answers, Refused if one denies access.
    """
    with admin.connect(bootstrap, security) as client:
        admin.create_other(client, topics, topics.destinations, partitions=1)
    access = {**security.arguments(), "bootstrap_timeout_ms": int(admin.CONNECT_S * 1000)}
    try:
        producer = KafkaProducer(bootstrap_servers=bootstrap.split(","), acks="all", **access)
        try:
            sent = [producer.send(topics.destinations, key=key.encode(), value=value) for key, value in records.items()]
            for one in sent:
                one.get(timeout=DELIVERY_S)
        finally:
            producer.close()
    except KafkaError as error:
        refusal = kafka_refusal(bootstrap, security, error)
        raise refusal or ConnectionError(f"writing {topics.destinations} at {bootstrap} failed: {error}") from error


def line(raw: bytes) -> str:
    """Returns a record of the arrivals topic for people. Raises ValueError for anything else."""
    record = loads_arrival(raw)
    if isinstance(record, Arrival):
        parts = [
            f"{utc(record.anchor_ts)}  {record.entity_id:<12}",
            f"{record.destination_id} in {between(record.early_s, record.late_s)}, nine times in ten",
            f"{record.distance_m:,.0f} m away",
            "from the forecast alone" if record.passages == 0 else f"from {record.passages} earlier passages",
        ]
        if record.chance_by_deadline is not None and record.deadline_ts is not None:
            parts.append(f"by {utc(record.deadline_ts)}: {100 * record.chance_by_deadline:.0f} %")
    elif isinstance(record, Arrived):
        parts = [f"{utc(record.ts)}  {record.entity_id:<12}", f"{record.destination_id} reached"]
        if record.late_s is not None:
            parts.append(f"{abs(record.late_s):.0f} s {'late' if record.late_s > 0 else 'before the deadline'}")
    else:
        assert isinstance(record, Inside)  # the third and last of ArrivalRecord
        parts = [f"{utc(record.anchor_ts)}  {record.entity_id:<12}"]
        for fence in record.geofences:
            chances = ", ".join(f"{100 * one.chance:.0f} % in {span(one.h_s)}" for one in fence.chances)
            parts.append(f"{fence.geofence_id}: {'inside now' if fence.now else 'outside now'}, {chances}")
    return escaped("  ".join(parts))


def between(early_s: float, late_s: float) -> str:
    """Returns an interval for people: 4 to 7 minutes, 30 to 90 s, 1.5 to 3 h."""
    if late_s < 120:
        return f"{early_s:.0f} to {late_s:.0f} s"
    if late_s < 7_200:
        return f"{early_s / 60:.0f} to {late_s / 60:.0f} minutes"
    return f"{early_s / 3600:.1f} to {late_s / 3600:.1f} h"


def span(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} min"
