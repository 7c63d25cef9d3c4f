"""The pages of a member: its metrics, and whether it is alive and ready."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from stream.http.probes import ProbePages
from stream.services.scores.sums import Labels, Sum, Sums
from stream.wire import MEASURED

# What became of the records of the forecasts topic, and why entities were forgotten (`Scorer.counts`).
RECORDS: Final = ("waits", "duplicate", "copy", "thinned", "unreadable")
FORGOTTEN: Final = ("silent", "anew", "evicted")
SUMS: Final[tuple[tuple[str, str, Callable[[Sum], float]], ...]] = (
    ("scores_scored", "Forecasts that a later ping was compared with.", lambda one: one.scored),
    ("scores_unscored", "Forecasts for whose time no ping came.", lambda one: one.unscored),
    ("scores_error_metres", "Sum of their errors.", lambda one: one.error_m),
    ("scores_inside50", "Inside the 50 % region.", lambda one: one.inside50),
    ("scores_inside90", "Inside the 90 % region.", lambda one: one.inside90),
    ("scores_compared", "Those that damped velocity has an error for, too.", lambda one: one.compared),
    ("scores_compared_error_metres", "Sum of the errors of these.", lambda one: one.compared_error_m),
    ("scores_damped_error_metres", "Sum of damped velocity's errors of these.", lambda one: one.damped_error_m),
)


class Place(NamedTuple):
    """Where one partition stands."""

    ready: bool
    lag: int | None  # None: unknown
    entities: int
    forecasts: int
    counts: Mapping[str, int]


class Member(Protocol):
    sums: Sums
    shortened: int

    def places(self) -> dict[int, Place]: ...

    @property
    def joined(self) -> bool: ...


class Pages(ProbePages):
    """Renders the pages of a member."""

    def __init__(self, member: Member) -> None:
        self._member = member
        super().__init__()

    def reasons(self) -> list[str]:
        reasons = [f"partition {n} is read again" for n, one in self._member.places().items() if not one.ready]
        return reasons if self._member.joined else ["not a member of the group yet"]

    def collect(self) -> Iterator[Metric]:
        """Yields every metric."""
        sums, places = self._member.sums, self._member.places()
        for name, text, of in SUMS:
            family = CounterMetricFamily(f"pathcast_{name}", text, labels=Labels._fields)
            for labels, one in sums.sums.items():
                family.add_metric(labels, of(one))
            yield family
        yield _counter("scores_forecasts", "Scores published, by the forecast's status.", "status", sums.statuses)
        text = "Logs that lacked records that were read."
        yield CounterMetricFamily("pathcast_scores_log_shortened", text, value=self._member.shortened)
        drifts: dict[str, int] = {name: sums.drifts[name] for name in MEASURED}
        yield _counter("scores_drifts", "Lasting changes that were found.", "measured", drifts)
        yield _by_partition("scores_records", "Forecast records, by what they were.", "outcome", places, RECORDS)
        yield _by_partition("scores_forgotten", "Entities given up, by why.", "reason", places, FORGOTTEN)
        gauges: tuple[tuple[str, str, Callable[[Place], Any]], ...] = (
            ("scores_ready", "1: ours, and all that waited is made again.", lambda one: one.ready),
            ("scores_lag_records", "Up to the log's end; absent if unknown.", lambda one: one.lag),
            ("scores_entities", "Entities of which something waits.", lambda one: one.entities),
            ("scores_waiting_forecasts", "Forecasts whose time has not come.", lambda one: one.forecasts),
        )
        for name, text, value in gauges:
            gauge = GaugeMetricFamily(f"pathcast_{name}", text, labels=("partition",))
            for number, place in places.items():
                if (found := value(place)) is not None:
                    gauge.add_metric((str(number),), found)
            yield gauge


def _counter(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"pathcast_{name}", text, labels=(label,))
    for value, count in counts.items():
        family.add_metric((value,), count)
    return family


def _by_partition(
    name: str, text: str, label: str, places: Mapping[int, Place], values: tuple[str, ...]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"pathcast_{name}", text, labels=("partition", label))
    for number, place in places.items():
        for value in values:
            family.add_metric((str(number), value), place.counts.get(value, 0))
    return family
