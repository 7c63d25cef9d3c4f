"""What Prometheus reads: names that hold, numbers that add up, and alerts that speak of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

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
HELD = Held(
    ready=True,
    waiting=1,
    at_work=5,
    behind=40,
    lag=7,
    fetch_age_s=8.0,
    entities=5,
    in_quarantine=6,
    stored=8,
    unread=9,
    atlas="0f",
)
ACCOUNT = Account(
    taken=100,
    forecasts=50,
    late=1,
    rejects=2,
    quarantined=3,
    duplicates=4,
    answered_before=5,
    handed_back=29,
    gap_fills=9,
    log_shortened=10,
    retention_lost=17,
)
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
    counts={
        0: Counts(
            replayed=11,
            restarts=12,
            rebuilt=13,
            damaged=14,
            step_failed=15,
            entity_quarantined=16,
            evicted=17,
            over_quota=18,
            unread=19,
            late_atlas=20,
            moved=30,
            late_weights=31,
        )
    },
    held={0: HELD},
    checkpoints_failed=21,
    batches_failed=23,
    fenced=22,
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
    assert value(samples, "records_in_total", partition="0") == settled + flying == 100
    assert value(samples, "unaccounted_records", partition="0") == 0
    assert value(samples, "unaccounted_records", partition="4") == 0, "of one that went, too"


def test_a_record_that_is_nowhere_is_scraped_as_unaccounted() -> None:
    samples = scraped(replace(WELL, held={0: replace(HELD, waiting=0)}))
    assert value(samples, "unaccounted_records", partition="0") == 1


def test_every_outcome_of_the_account_is_scraped() -> None:
    beside = {"taken", "gap_fills", "log_shortened", "retention_lost"}
    assert set(OUTCOMES.values()) == {field.name for field in fields(Account)} - beside


def test_each_number_goes_by_its_own_name() -> None:
    held = {0: replace(HELD, undecided=True)}
    samples = scraped(replace(WELL, draining=True, store_away=True, silence=AWAY, held=held))
    of_a_partition = {
        "checkpoint_behind_records": 40,
        "lag_records": 7,
        "fetch_age_seconds": 8,
        "entities": 5,
        "entities_in_quarantine": 6,
        "entities_stored": 8,
        "entities_unread": 9,
        "atlas_waits": 1,
        "partition_ready": 1,
        "gap_fills_total": 9,
        "log_shortened_total": 10,
        "retention_lost_records_total": 17,
        "replayed_records_total": 11,
        "restarts_total": 12,
        "states_rebuilt_total": 13,
        "states_damaged_total": 14,
        "steps_failed_total": 15,
        "shut_out_total": 16,
        "states_evicted_total": 17,
        "over_quota_total": 18,
        "unknown_entities_answered_as_new_total": 19,
        "atlas_late_forecasts_total": 20,
    }
    of_the_worker = {
        "checkpoints_failed_total": 21,
        "fenced_total": 22,
        "batches_failed_total": 23,
        "ready": 0,
        "draining": 1,
        "store_away": 1,
        "kafka_away": 1,
    }
    outcomes = {
        "forecast": 50,
        "late": 1,
        "rejected": 2,
        "quarantined": 3,
        "duplicate": 4,
        "answered_before": 5,
        "handed_back": 29,
    }
    found = {name: value(samples, name, partition="0") for name in of_a_partition}
    assert found == of_a_partition
    assert {name: value(samples, name) for name in of_the_worker} == of_the_worker
    assert {name: value(samples, "records_total", partition="0", outcome=name) for name in outcomes} == outcomes
    places = ("waiting", "at_work")
    assert [value(samples, "records_in_flight", partition="0", place=place) for place in places] == [1, 5]
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
    assert b'pathcast_records_in_total{partition="0"} 100' in first.render(WELL)


# -- health -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"assigned": False, "held": {}}, "has not given out"),
        ({"draining": True}, "draining"),
        ({"held": {0: HELD, 3: replace(HELD, ready=False)}}, "taking over: partitions 3"),
        ({"silence": AWAY}, "Kafka is away: the leaders of partitions 0 have not answered for 25 s"),
        ({"silence": Silence(brokers_s=25.0)}, "Kafka is away: no broker has answered for 25 s"),
        ({"store_away": True}, "Redis is away: checkpoints are 40 records behind"),
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
