"""Renders a worker's reading as Prometheus metrics: their names, help texts and labels.

A scrape has two steps: a reading (stream.worker.monitor.health) is taken on the event loop, where all counts are of
one moment; and it is rendered on any thread, so that neither many partitions nor many clients block the loop.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from stream.delivery.accounts import Account, Spread
from stream.engine.counts import Counts
from stream.wire import CODES, OPTIONAL
from stream.worker.monitor.health import Held, Reading, unready

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4  # the format of generate_latest
COUNTER: Final = CounterMetricFamily
GAUGE: Final = GaugeMetricFamily
Values = Iterable[tuple[tuple[str, ...], float]]  # the values of the labels, the number


class Row(NamedTuple):
    family: Callable[..., CounterMetricFamily | GaugeMetricFamily]
    name: str  # after "pathcast_"; the library adds a counter's "_total"
    text: str
    labels: tuple[str, ...]
    values: Callable[[Reading], Values]


def _one(of: Callable[[Reading], float]) -> Callable[[Reading], Values]:
    return lambda reading: [((), of(reading))]


def _accounts(of: Callable[[Account], float]) -> Callable[[Reading], Values]:
    return lambda reading: [((str(number),), of(account)) for number, account in reading.accounts.items()]


def _counts(of: Callable[[Counts], float]) -> Callable[[Reading], Values]:
    return lambda reading: [((str(number),), of(counts)) for number, counts in reading.counts.items()]


def _by_partition(of: Callable[[Held], float | None]) -> Callable[[Reading], Values]:
    return lambda reading: [
        ((str(number),), value) for number, held in reading.held.items() if (value := of(held)) is not None
    ]


def _label_values(labels: Iterable[str], of: Callable[[Reading], Mapping[str, int]]) -> Callable[[Reading], Values]:
    """Returns the values by these labels. A label without a count gets 0, so that its first count is an increase."""
    return lambda reading: [((label,), value) for label, value in {**dict.fromkeys(labels, 0), **of(reading)}.items()]


def _outcomes(reading: Reading) -> Iterator[tuple[tuple[str, ...], float]]:
    for number, account in reading.accounts.items():
        for outcome, field in OUTCOMES.items():
            yield (str(number), outcome), getattr(account, field)


def _in_flight(reading: Reading) -> Iterator[tuple[tuple[str, ...], float]]:
    for number, held in reading.held.items():
        for place in ("waiting", "at_work"):
            yield (str(number), place), getattr(held, place)


def _atlases(reading: Reading) -> Iterator[tuple[tuple[str, ...], float]]:
    for number, held in reading.held.items():
        if held.atlas is not None:
            yield (str(number), held.atlas), 1


OUTCOMES: Final = {  # the label, and the field of the account
    "forecast": "forecasts",
    "late": "late",
    "rejected": "rejects",
    "quarantined": "quarantined",
    "duplicate": "duplicates",
    "answered_before": "answered_before",
    "handed_back": "handed_back",
}
PARTITION: Final = ("partition",)
TABLE: Final = (
    Row(GAUGE, "worker_info", "1: what works here.", ("version", "weights", "model"), lambda r: [(r.worker, 1)]),
    Row(
        GAUGE,
        "ready",
        "1: every partition is taken over, and nothing is in the way.",
        (),
        _one(lambda r: not unready(r)),
    ),
    Row(GAUGE, "draining", "1: partitions are about to go.", (), _one(lambda r: r.draining)),
    Row(GAUGE, "store_away", "1: Redis cannot be reached.", (), _one(lambda r: r.store_away)),
    Row(
        GAUGE, "kafka_away", "1: a partition's leader, or every broker, is silent.", (), _one(lambda r: r.silence.away)
    ),
    # The accounts: records_in = the sum of records over all outcomes + records_in_flight.
    Row(COUNTER, "records_in", "Records taken from the input topic.", PARTITION, _accounts(lambda a: a.taken)),
    Row(COUNTER, "records", "Records by what became of them; committed.", ("partition", "outcome"), _outcomes),
    Row(GAUGE, "records_in_flight", "Records taken and not settled yet.", ("partition", "place"), _in_flight),
    Row(
        *(GAUGE, "unaccounted_records", "Records in, less those settled and in flight: 0, or something is wrong."),
        *(PARTITION, lambda r: [((str(number),), value) for number, value in r.unaccounted.items()]),
    ),
    Row(COUNTER, "rejects", "Dead letters, by code; committed.", ("code",), _label_values(CODES, lambda r: r.rejects)),
    Row(
        *(COUNTER, "fields_dropped", "Optional fields left out of pings, as their values cannot be, by name."),
        *(("field",), _label_values(OPTIONAL, lambda r: r.fields_dropped)),
    ),
    Row(COUNTER, "gap_fills", "Gap fills published, by revision.", PARTITION, _accounts(lambda a: a.gap_fills)),
    # Partitions and their states.
    Row(GAUGE, "partition_ready", "1: ours, and taken over.", PARTITION, _by_partition(lambda h: h.ready)),
    Row(
        GAUGE,
        "lag_records",
        "From the next record to answer to the log's end, as the last answered fetch says; absent if Kafka is away.",
        PARTITION,
        _by_partition(lambda h: h.lag),
    ),
    Row(
        GAUGE, "fetch_age_seconds", "Since the last answered fetch.", PARTITION, _by_partition(lambda h: h.fetch_age_s)
    ),
    Row(
        GAUGE,
        "checkpoint_behind_records",
        "Records in no checkpoint yet.",
        PARTITION,
        _by_partition(lambda h: h.behind),
    ),
    Row(GAUGE, "entities", "Entities in memory.", PARTITION, _by_partition(lambda h: h.entities)),
    Row(GAUGE, "entities_stored", "Entities with states in Redis.", PARTITION, _by_partition(lambda h: h.stored)),
    Row(GAUGE, "entities_in_quarantine", "Their step raised.", PARTITION, _by_partition(lambda h: h.in_quarantine)),
    Row(COUNTER, "steps_failed", "Rejected: the step raised.", PARTITION, _counts(lambda c: c.step_failed)),
    Row(COUNTER, "shut_out", "Rejected: of quarantined entities.", PARTITION, _counts(lambda c: c.entity_quarantined)),
    Row(COUNTER, "replayed_records", "Folded in silence by takeovers.", PARTITION, _counts(lambda c: c.replayed)),
    Row(COUNTER, "log_shortened", "The log lost answered records.", PARTITION, _accounts(lambda a: a.log_shortened)),
    Row(
        *(COUNTER, "retention_lost_records", "Offsets that retention deleted before they were answered."),
        *(PARTITION, _accounts(lambda a: a.retention_lost)),
    ),
    Row(COUNTER, "restarts", "Entities that started anew after a silence.", PARTITION, _counts(lambda c: c.restarts)),
    Row(COUNTER, "states_rebuilt", "States refused, rebuilt from windows.", PARTITION, _counts(lambda c: c.rebuilt)),
    Row(
        *(COUNTER, "unknown_entities_answered_as_new", "Forecasts without the stored state, which came too late."),
        *(PARTITION, _counts(lambda c: c.unread)),
    ),
    Row(
        GAUGE, "entities_unread", "Taken for new until Redis can be read.", PARTITION, _by_partition(lambda h: h.unread)
    ),
    Row(COUNTER, "states_damaged", "Stored records that were refused.", PARTITION, _counts(lambda c: c.damaged)),
    Row(COUNTER, "states_evicted", "Lost by Redis before they expired.", PARTITION, _counts(lambda c: c.evicted)),
    Row(
        *(COUNTER, "entities_misplaced", "Came into memory, and murmur2 puts their key into another partition."),
        *(PARTITION, _counts(lambda c: c.misplaced)),
    ),
    Row(COUNTER, "over_quota", "Rejected: of new entities over the quota.", PARTITION, _counts(lambda c: c.over_quota)),
    Row(
        *(GAUGE, "atlas_info", "1: the version of the atlas that answered last; empty: none serves yet."),
        *(("partition", "version"), _atlases),
    ),
    Row(
        GAUGE,
        "atlas_waits",
        "1: waits for a version of atlas or weights.",
        PARTITION,
        _by_partition(lambda h: h.undecided),
    ),
    Row(
        *(COUNTER, "atlas_late_forecasts", "Another version may have been due, for which nobody could wait."),
        *(PARTITION, _counts(lambda c: c.late_atlas)),
    ),
    Row(
        *(GAUGE, "weights_info", "1: these weights are in memory."),
        *(("name", "version"), lambda r: [(one, 1) for one in r.networks]),
    ),
    Row(GAUGE, "versions_refused", "Due, and cannot be loaded: see the log.", (), _one(lambda r: len(r.refused))),
    Row(
        *(COUNTER, "announcements_refused", "Records of the models topic that say nothing of a version."),
        *((), _one(lambda r: r.announcements_refused)),
    ),
    Row(COUNTER, "states_moved", "Rebuilt by the weights that are due.", PARTITION, _counts(lambda c: c.moved)),
    Row(
        *(COUNTER, "weights_late_forecasts", "Other weights may have been due, for which nobody could wait."),
        *(PARTITION, _counts(lambda c: c.late_weights)),
    ),
    Row(COUNTER, "checkpoints_failed", "Tries while Redis was away.", (), _one(lambda r: r.checkpoints_failed)),
    Row(COUNTER, "fenced", "Writes refused: another worker had claimed.", (), _one(lambda r: r.fenced)),
    Row(COUNTER, "batches_failed", "At the engine; then taken over anew.", (), _one(lambda r: r.batches_failed)),
    # It shows growth that is too small for the process's memory: a list that never shrinks, an entry per record.
    Row(GAUGE, "python_blocks", "Blocks of memory under Python objects.", (), _one(lambda _: sys.getallocatedblocks())),
)
HISTOGRAMS: Final = {  # by the field of the accounts: the metric's name and help text
    "batch_records": ("batch_records", "Records that went through the engine together."),
    "engine_s": ("engine_seconds", "A batch in the engine, its look-ups in Redis included."),
    "commit_s": ("commit_seconds", "From a batch's answers to its committed offsets."),
    "checkpoint_s": ("checkpoint_seconds", "One partition's checkpoint to Redis."),
    "latency_s": (
        "ping_to_forecast_seconds",
        "From a record's timestamp to its committed answer; each counts like the oldest of its poll: an upper bound.",
    ),
}


class Exposition(Collector):
    """Renders readings. It has its own registry, so that two workers in one process do not collide."""

    def __init__(self) -> None:
        self._reading: Reading | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self, reading: Reading) -> bytes:
        """Returns the reading in Prometheus's text format. It may be called on any thread."""
        self._reading = reading
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        reading = self._reading  # read once, as a scrape that was given up may still be rendered at the same time
        if reading is None:
            return
        for row in TABLE:
            yield _family(row, reading)
        for field, (name, text) in HISTOGRAMS.items():
            yield _histogram(name, text, reading.times[field])


def _family(row: Row, reading: Reading) -> Metric:
    family = row.family(f"pathcast_{row.name}", row.text, labels=row.labels)
    for labels, value in row.values(reading):
        family.add_metric(labels, value)
    return family


def _histogram(name: str, text: str, of: Spread) -> Metric:
    family = HistogramMetricFamily(f"pathcast_{name}", text)
    bounds = [*map(floatToGoString, of.bounds), "+Inf"]
    family.add_metric((), list(zip(bounds, of.at_most, strict=True)), of.sum)
    return family
