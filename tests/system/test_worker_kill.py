"""The promise: whatever dies, every accepted ping has its forecast and every rejected record its dead letter."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

import bus_feed
from worker_process import Worker

from model.api import Predictor
from stream.wire import Topics, loads_forecast, loads_gapfill

PINGS = 200_000
KILL_AFTER = 40_000  # forecasts: in the middle of the run, while the feed and both workers are busy
SEED = 20_170_321


def test_nothing_is_lost_when_one_of_two_workers_is_killed_and_started_again(
    kafka: str, redis_url: str, topic_prefix: str, weights: Path, tmp_path: Path
) -> None:
    topics = Topics.of(topic_prefix)
    bus_feed.create_topics(kafka, topics)
    options = {
        "bootstrap": kafka,
        "redis": redis_url,
        "weights": weights,
        "prefix": topic_prefix,
        "group": topic_prefix,
        "session_timeout_s": 6,
    }
    feed = threading.Thread(target=lambda: bus_feed.send(kafka, topics.pings, bus_feed.fleet(PINGS, seed=SEED)))
    with ExitStack() as stack:
        victim = stack.enter_context(Worker(tmp_path / "victim.log", **options))
        other = stack.enter_context(Worker(tmp_path / "other.log", **options))
        victim.wait_until_ready()
        other.wait_until_ready()
        feed.start()
        out = bus_feed.wait_for_records(kafka, topics.forecasts, KILL_AFTER, lambda: all_live(victim, other))
        victim.kill()
        assert out < PINGS, "the kill must come in the middle"
        again = stack.enter_context(Worker(tmp_path / "again.log", **options))
        feed.join()
        bus_feed.wait_until_consumed(kafka, topic_prefix, topics.pings, lambda: all_live(other, again))
        assert other.stop() == 0
        assert again.stop() == 0

    predictor = Predictor.load(weights)
    sent = list(bus_feed.read(kafka, topics.pings))
    assert len(sent) == PINGS
    due = bus_feed.expected(sent, window_fixes=predictor.history, version=predictor.version)
    assert len(due.forecast_ids) > 0.95 * PINGS

    forecast_ids = [
        loads_forecast(record.value or b"").forecast_id for record in bus_feed.read(kafka, topics.forecasts)
    ]
    assert due.forecast_ids - set(forecast_ids) == set(), "accepted pings without a forecast"
    assert set(forecast_ids) - due.forecast_ids == set(), "forecasts of nothing that was accepted"
    print(f"{len(forecast_ids) - len(due.forecast_ids)} forecasts came twice, of {len(due.forecast_ids)}")

    gap_ids = {loads_gapfill(record.value or b"").gap_id for record in bus_feed.read(kafka, topics.gapfills)}
    assert gap_ids == due.gap_ids

    letters = list(bus_feed.read(kafka, topics.dead_letters))
    assert {bus_feed.source_of(letter) for letter in letters} == due.rejects.keys()
    for letter in letters:
        source = due.rejects[bus_feed.source_of(letter)]
        assert (letter.key, letter.value) == (source.key, source.value)
        assert letter.headers[: len(source.headers)] == source.headers


def all_live(*workers: Worker) -> None:
    for worker in workers:
        assert worker.running(), worker.log()
