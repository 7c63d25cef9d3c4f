"""The promise: whatever dies, every accepted ping has its forecast and every rejected record its dead letter."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path

import bus_feed
import pytest
from worker_process import Worker, assert_all_live

from model.api import Predictor
from stream.wire import Topics, loads_forecast, loads_gapfill

PINGS, KILLS = 30_000, 2
SLICE = PINGS // (KILLS + 1)  # records; a worker is killed in the middle of each but the last, while both are busy
SEED = 20_170_321


@pytest.mark.promise("each ping has its forecast and each other record its dead letter, whichever worker is killed")
@pytest.mark.usefixtures("apache_kafka")
def test_nothing_is_lost_when_one_of_two_workers_is_killed_and_started_again_and_again(
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
    records = bus_feed.fleet(PINGS, seed=SEED)

    def feeding(count: int) -> threading.Thread:
        sent = threading.Thread(target=bus_feed.send, args=(kafka, topics.pings, islice(records, count)), daemon=True)
        sent.start()
        return sent

    with ExitStack() as stack:
        other = stack.enter_context(Worker(tmp_path / "other.log", **options))
        victim = stack.enter_context(Worker(tmp_path / "victim.log", **options))
        other.wait_until_ready()
        victim.wait_until_ready()
        answered = 0
        for number in range(KILLS):
            feed = feeding(SLICE)
            middle = answered + SLICE // 2
            bus_feed.wait_for_records(kafka, topics.forecasts, middle, partial(assert_all_live, victim, other))
            victim.kill()
            feed.join()
            victim = stack.enter_context(Worker(tmp_path / f"victim{number}.log", **options))
            victim.wait_until_ready()
            answered = bus_feed.wait_for_records(kafka, topics.forecasts, 1, partial(assert_all_live, victim, other))
        feeding(PINGS).join()
        bus_feed.wait_until_consumed(kafka, topic_prefix, topics.pings, partial(assert_all_live, other, victim))
        assert other.stop() == 0
        assert victim.stop() == 0

    predictor = Predictor.load(weights)
    sent = list(bus_feed.read(kafka, topics.pings))
    assert len(sent) == PINGS
    due = bus_feed.expected(sent, window_fixes=predictor.history, version=predictor.version)
    assert len(due.windows) > 0.95 * PINGS

    forecasts = [loads_forecast(record.value or b"") for record in bus_feed.read(kafka, topics.forecasts)]
    forecast_ids = {forecast.forecast_id for forecast in forecasts}
    assert due.windows.keys() - forecast_ids == set(), "accepted pings without a forecast"
    assert forecast_ids - due.windows.keys() == set(), "forecasts of nothing that was accepted"
    print(f"{len(forecasts) - len(forecast_ids)} forecasts came twice, of {len(forecast_ids)}")
    # What a worker took over is what an undisturbed one would have: each forecast stands on the same pings.
    wrong = [forecast for forecast in forecasts if forecast.window != due.windows[forecast.forecast_id]]
    assert wrong == []

    gap_ids = {loads_gapfill(record.value or b"").gap_id for record in bus_feed.read(kafka, topics.gapfills)}
    assert gap_ids == due.gap_ids

    letters = list(bus_feed.read(kafka, topics.dead_letters))
    assert {bus_feed.source_of(letter) for letter in letters} == due.rejects.keys()
    for letter in letters:
        source = due.rejects[bus_feed.source_of(letter)]
        assert (letter.key, letter.value) == (source.key, source.value)
        assert letter.headers[: len(source.headers)] == source.headers
