"""What Prometheus reads: names that hold, numbers that add up, and alerts that speak of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import promql_names
import pytest
import served_metrics
import yaml
from prometheus_client.parser import text_string_to_metric_families as parsed

from stream.delivery.accounts import SECONDS, Account, Histogram
from stream.engine.counts import Counts
from stream.wire import CODES, OPTIONAL
from stream.worker.monitor.broker_monitor import Silence
from stream.worker.monitor.health import STUCK_S, Held, Reading, unready, unwell
from stream.worker.monitor.metrics import HISTOGRAMS, OUTCOMES, TABLE, Exposition

RULES = Path(__file__).parents[4] / "deploy" / "alerts" / "pathcast.rules.yaml"


def numbered(kind: type[Any], first: int, **more: Any) -> Any:
    """One of this kind whose fields have numbers of their own."""
    return kind(**{field.name: number for number, field in enumerate(fields(kind), first)} | more)


HELD: Held = numbered(Held, 1, ready=True, undecided=False, atlas="0f")
COUNTS: Counts = numbered(Counts, 21)
ACCOUNT: Account = numbered(Account, 41)
ACCOUNT = replace(ACCOUNT, taken=ACCOUNT.settled + HELD.in_flight)
WELL = Reading(
    worker=("1.0", "small", "abc"),
    assigned=True,
    draining=False,
    store_away=False,
    networks=[("small", "abc"), ("other", "def")],
    refused={"0123456789abcdef": "it is damaged"},
    silence=Silence({("pings", 0): 8.0}, {("pings", 0): 0.0}),
    batch_s=0.0,
    accounts={0: ACCOUNT, 4: Account(taken=2, handed_back=2)},
    counts={0: COUNTS},
    held={0: HELD},
    checkpoints_failed=1,
    batches_failed=2,
    fenced=3,
    announcements_refused=27,
    rejects={"invalid_json": 24, "too_late": 25},
    fields_dropped={"speed_mps": 26},
    times={name: Histogram(SECONDS).read() for name in HISTOGRAMS},
)
AWAY = Silence({("pings", 0): 25.0, ("pings", 4): 0.0}, {("pings", 0): 25.0, ("pings", 4): 0.0})
Key = tuple[str, frozenset[tuple[str, str]]]


def scraped(reading: Reading) -> dict[Key, float]:
    text = Exposition().render(reading).decode()
    return {(s.name, frozenset(s.labels.items())): s.value for family in parsed(text) for s in family.samples}


def value(samples: Mapping[Key, float], name: str, **labels: str) -> float:
    return samples[f"pathcast_{name}", frozenset(labels.items())]


def test_what_is_scraped_adds_up_by_itself() -> None:
    samples = scraped(WELL)
    settled = sum(
        v for (name, labels), v in samples.items() if name == "pathcast_records_total" and ("partition", "0") in labels
    )
    flying = sum(v for (name, _), v in samples.items() if name == "pathcast_records_in_flight")
    assert value(samples, "records_in_total", partition="0") == settled + flying > flying > 0
    assert value(samples, "unaccounted_records", partition="0") == 0
    assert value(samples, "unaccounted_records", partition="4") == 0, "of one that went, too"


def test_a_record_that_is_nowhere_is_scraped_as_unaccounted() -> None:
    samples = scraped(replace(WELL, held={0: replace(HELD, waiting=HELD.waiting - 1)}))
    assert value(samples, "unaccounted_records", partition="0") == 1


def test_every_outcome_of_the_account_is_scraped() -> None:
    beside = {"taken", "gap_fills", "log_shortened", "retention_lost"}
    assert set(OUTCOMES.values()) == {field.name for field in fields(Account)} - beside


def test_each_number_goes_by_its_own_name() -> None:
    held = {0: replace(HELD, undecided=True)}
    samples = scraped(replace(WELL, draining=True, store_away=True, silence=AWAY, held=held))
    of_a_partition = {
        "checkpoint_behind_records": HELD.behind,
        "lag_records": HELD.lag,
        "fetch_age_seconds": HELD.fetch_age_s,
        "entities": HELD.entities,
        "entities_in_quarantine": HELD.in_quarantine,
        "entities_stored": HELD.stored,
        "entities_unread": HELD.unread,
        "atlas_waits": 1,
        "partition_ready": 1,
        "gap_fills_total": ACCOUNT.gap_fills,
        "log_shortened_total": ACCOUNT.log_shortened,
        "retention_lost_records_total": ACCOUNT.retention_lost,
        "replayed_records_total": COUNTS.replayed,
        "restarts_total": COUNTS.restarts,
        "states_rebuilt_total": COUNTS.rebuilt,
        "states_damaged_total": COUNTS.damaged,
        "steps_failed_total": COUNTS.step_failed,
        "shut_out_total": COUNTS.entity_quarantined,
        "states_evicted_total": COUNTS.evicted,
        "over_quota_total": COUNTS.over_quota,
        "entities_misplaced_total": COUNTS.misplaced,
        "unknown_entities_answered_as_new_total": COUNTS.unread,
        "atlas_late_forecasts_total": COUNTS.late_atlas,
        "states_moved_total": COUNTS.moved,
        "weights_late_forecasts_total": COUNTS.late_weights,
    }
    of_the_worker = {
        "checkpoints_failed_total": 1,
        "batches_failed_total": 2,
        "fenced_total": 3,
        "ready": 0,
        "draining": 1,
        "store_away": 1,
        "kafka_away": 1,
    }
    outcomes = {
        "forecast": ACCOUNT.forecasts,
        "late": ACCOUNT.late,
        "rejected": ACCOUNT.rejects,
        "quarantined": ACCOUNT.quarantined,
        "duplicate": ACCOUNT.duplicates,
        "answered_before": ACCOUNT.answered_before,
        "handed_back": ACCOUNT.handed_back,
    }
    found = {name: value(samples, name, partition="0") for name in of_a_partition}
    assert found == of_a_partition
    assert {name: value(samples, name) for name in of_the_worker} == of_the_worker
    assert {name: value(samples, "records_total", partition="0", outcome=name) for name in outcomes} == outcomes
    places = ("waiting", "at_work")
    assert [value(samples, "records_in_flight", partition="0", place=place) for place in places] == [
        HELD.waiting,
        HELD.at_work,
    ]
    assert value(samples, "atlas_info", partition="0", version="0f") == 1
    assert value(samples, "worker_info", version="1.0", weights="small", model="abc") == 1


def test_rejects_go_by_their_codes_and_dropped_fields_by_their_names() -> None:
    samples = scraped(WELL)
    codes = {code: value(samples, "rejects_total", code=code) for code in CODES}
    assert codes == dict.fromkeys(CODES, 0) | {"invalid_json": 24, "too_late": 25}, "all of them, also those that are 0"
    names = {name: value(samples, "fields_dropped_total", field=name) for name in OPTIONAL}
    assert names == dict.fromkeys(OPTIONAL, 0) | {"speed_mps": 26}


def test_a_lag_that_nobody_knows_is_absent_and_one_of_zero_is_not() -> None:
    samples = scraped(replace(WELL, held={0: replace(HELD, lag=None)}))
    assert ("pathcast_lag_records", frozenset({("partition", "0")})) not in samples
    samples = scraped(replace(WELL, held={0: replace(HELD, ready=False, lag=0)}))
    assert value(samples, "lag_records", partition="0") == value(samples, "partition_ready", partition="0") == 0


def test_a_histogram_is_scraped_with_its_count_and_sum() -> None:
    histogram = Histogram(SECONDS)
    histogram.observe(0.03, 5)
    histogram.observe(99.0)
    samples = scraped(replace(WELL, times={**WELL.times, "commit_s": histogram.read()}))
    assert value(samples, "commit_seconds_bucket", le="0.02") == 0
    assert value(samples, "commit_seconds_bucket", le="0.05") == 5
    assert value(samples, "commit_seconds_bucket", le="+Inf") == value(samples, "commit_seconds_count") == 6
    assert value(samples, "commit_seconds_sum") == pytest.approx(99.15)


def test_each_histogram_is_scraped_under_its_own_name() -> None:
    times = {}
    for number, field in enumerate(HISTOGRAMS, start=1):
        histogram = Histogram(SECONDS)
        histogram.observe(1.0, number)
        times[field] = histogram.read()
    samples = scraped(replace(WELL, times=times))
    names = ("batch_records", "engine_seconds", "commit_seconds", "checkpoint_seconds", "ping_to_forecast_seconds")
    assert dict(zip(HISTOGRAMS, (value(samples, f"{name}_count") for name in names), strict=True)) == {
        "batch_records": 1,
        "engine_s": 2,
        "commit_s": 3,
        "checkpoint_s": 4,
        "latency_s": 5,
    }


def test_the_process_is_measured_and_two_workers_of_one_process_keep_apart() -> None:
    first, second = Exposition(), Exposition()
    assert b"process_resident_memory_bytes" in first.render(WELL)
    second.render(replace(WELL, accounts={}))
    assert f'pathcast_records_in_total{{partition="0"}} {ACCOUNT.taken}' in first.render(WELL).decode()


# -- health -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"assigned": False, "held": {}}, "has not given out"),
        ({"draining": True}, "draining"),
        ({"held": {0: HELD, 3: replace(HELD, ready=False)}}, "taking over: partitions 3"),
        ({"silence": AWAY}, "Kafka is away: the leaders of partitions 0 have not answered for 25 s"),
        ({"silence": Silence(brokers_s=25.0)}, "Kafka is away: no broker has answered for 25 s"),
        ({"store_away": True}, f"Redis is away: checkpoints are {HELD.behind} records behind"),
        ({"held": {3: replace(HELD, undecided=True)}}, "waiting for a version of the atlas: partitions 3"),
    ],
)
def test_a_worker_in_whose_way_something_is_is_unready_but_alive(change: dict[str, object], why: str) -> None:
    reading = replace(WELL, **change)
    assert [why in reason for reason in unready(reading)] == [True]
    assert value(scraped(reading), "ready") == 0
    assert not unwell(reading), "a new process would do no better"


def test_what_redis_lacks_is_told_by_the_partition_that_is_furthest_behind() -> None:
    away = replace(WELL, store_away=True)
    (reason,) = unready(replace(away, held={0: HELD, 1: replace(HELD, behind=500), 2: replace(HELD, behind=0)}))
    assert "500 records behind" in reason
    assert "0 records behind" in unready(replace(away, held={}))[0]


def test_an_engine_that_is_stuck_is_dead_unless_redis_is_what_it_waits_for() -> None:
    assert not unwell(replace(WELL, batch_s=STUCK_S))
    assert unwell(replace(WELL, batch_s=STUCK_S + 1))
    assert not unwell(replace(WELL, batch_s=STUCK_S + 1, store_away=True))


# -- alerts -----------------------------------------------------------------------------------------------------------


def test_every_alert_says_whom_it_wakes_and_speaks_of_metrics_that_exist() -> None:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    served = served_metrics.names() | {"up"}
    for rule in group["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"].keys() == {"runbook_url", "summary", "description"}
        spoken = promql_names.names(rule["expr"])
        assert spoken, rule["alert"]
        assert spoken <= served, f"{rule['alert']}: nobody serves {spoken - served}"
    assert any("pathcast_unaccounted_records != 0" in rule["expr"] for rule in group["rules"])


def test_the_table_has_every_name_once() -> None:
    names = [row.name for row in TABLE] + [name for name, _ in HISTOGRAMS.values()]
    assert len(names) == len(set(names))
