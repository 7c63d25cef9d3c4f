"""One worker hands over to the next: after SIGTERM, and over states that were damaged meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import bus_feed
import pytest
import redis
from worker_process import Worker, assert_all_live

from stream.engine.entities import stored_entity
from stream.wire import Forecast, Topics, loads_forecast

PINGS = 6_000
SEED = 7
STATE_TAIL = 64  # bytes at a record's end: they are the model's, far behind the track part

Options = dict[str, Any]


@pytest.fixture
def options(kafka: str, redis_url: str, topic_prefix: str, weights: Path) -> Options:
    return {
        "bootstrap": kafka,
        "redis": redis_url,
        "weights": weights,
        "prefix": topic_prefix,
        "group": topic_prefix,
        "partitions": 4,
    }


def feed(options: Options, start: int, stop: int) -> None:
    records = islice(bus_feed.fleet(PINGS, seed=SEED), start, stop)
    bus_feed.send(options["bootstrap"], Topics.of(options["prefix"]).pings, records)


def consume(options: Options, *workers: Worker) -> None:
    topic = Topics.of(options["prefix"]).pings
    bus_feed.wait_until_consumed(options["bootstrap"], options["group"], topic, partial(assert_all_live, *workers))


def forecasts(options: Options) -> list[Forecast]:
    topic = Topics.of(options["prefix"]).forecasts
    return [loads_forecast(found.value or b"") for found in bus_feed.read(options["bootstrap"], topic)]


@contextmanager
def started(options: Options, log: Path) -> Iterator[Worker]:
    with Worker(log, **options) as worker:
        worker.wait_until_ready()
        yield worker


def second_half(options: Options, log: Path) -> tuple[list[Forecast], str]:
    """What a new worker says to the rest of the feed, and its log."""
    before = {forecast.src for forecast in forecasts(options)}
    with started(options, log) as worker:
        feed(options, PINGS // 2, PINGS)
        consume(options, worker)
        assert worker.stop() == 0
        return [forecast for forecast in forecasts(options) if forecast.src not in before], worker.log()


def first_half(options: Options, log: Path) -> None:
    with started(options, log) as worker:
        feed(options, 0, PINGS // 2)
        consume(options, worker)
        assert worker.stop() == 0


def test_after_sigterm_the_next_worker_goes_on_with_nothing_to_replay(options: Options, tmp_path: Path) -> None:
    first_half(options, tmp_path / "first.log")
    new, log = second_half(options, tmp_path / "second.log")
    assert "replayed" not in log
    assert len({forecast.src for forecast in new}) == len(new), "nothing came twice"
    caches = {forecast.cache for forecast in new if forecast.window.n > PINGS // 2 // 36 // 8}
    assert caches <= {"hit", "rebuilt"}  # "rebuilt" by a late ping
    assert sum(forecast.cache == "hit" for forecast in new) > 0.9 * len(new)


def first_of_each_entity(some: list[Forecast]) -> list[Forecast]:
    first: dict[str, Forecast] = {}
    for forecast in some:
        first.setdefault(forecast.entity_id, forecast)
    return list(first.values())


def damage(redis_url: str, prefix: str, spoil: Callable[[bytes], bytes]) -> int:
    """Spoil the record of every entity; how many there are."""
    with redis.Redis.from_url(redis_url) as client:
        keys = [key for key in client.scan_iter(count=1000) if prefix.encode() in key and b":e:" in key]
        for key in keys:
            client.set(key, spoil(client.get(key)))
        return len(keys)


def flip_state_bit(raw: bytes) -> bytes:
    at = len(raw) - STATE_TAIL
    return raw[:at] + bytes([raw[at] ^ 0x10]) + raw[at + 1 :]


def cut_state(raw: bytes) -> bytes:
    return raw[:-STATE_TAIL]


def flip_track_bit(raw: bytes) -> bytes:
    return raw[:60] + bytes([raw[60] ^ 0x01]) + raw[61:]


@pytest.mark.parametrize("spoil", [flip_state_bit, cut_state])
def test_a_damaged_state_is_rebuilt_and_the_forecast_says_so(
    spoil: Callable[[bytes], bytes], options: Options, tmp_path: Path
) -> None:
    first_half(options, tmp_path / "first.log")
    spoiled = damage(options["redis"], options["prefix"], spoil)
    new, log = second_half(options, tmp_path / "second.log")
    assert "refused" in log
    first = first_of_each_entity(new)
    known = [forecast for forecast in first if forecast.window.n > 1]  # the window is sound and stays
    assert spoiled >= len(known) > len(first) / 2, "the others are buses that set out after the damage"
    assert {forecast.cache for forecast in known} == {"rebuilt"}


def test_a_damaged_track_starts_anew_and_the_forecast_says_so(options: Options, tmp_path: Path) -> None:
    assert stored_entity.HEAD.itemsize > 60, "flip_track_bit must hit the track part"
    first_half(options, tmp_path / "first.log")
    damage(options["redis"], options["prefix"], flip_track_bit)
    new, log = second_half(options, tmp_path / "second.log")
    assert "starts anew" in log
    first = first_of_each_entity(new)
    assert {forecast.cache for forecast in first} == {"none"}
    assert {forecast.window.n for forecast in first} == {1}


@pytest.mark.usefixtures("apache_kafka")
def test_a_named_worker_that_dies_and_comes_back_finds_its_partitions_and_the_other_hears_nothing_of_it(
    options: Options, tmp_path: Path
) -> None:
    """Within a session of ten minutes no rebalance can be for its death; without a name its successor is a new member,
    and waits for that."""
    options["session_timeout_s"] = 600
    named_a, named_b = options | {"instance": "a"}, options | {"instance": "b"}
    with started(named_a, tmp_path / "a.log") as first, started(named_b, tmp_path / "b.log") as other:
        mine = assignment(first.log())
        first.kill()
        with started(named_a, tmp_path / "a2.log") as again:
            feed(options, 0, PINGS // 2)
            consume(options, again, other)
            assert [assignment(again.log()), other.log().count("assigned:")] == [mine, 1]
            assert [again.stop(), other.stop()] == [0, 0]


def assignment(log: str) -> str:
    """What the group gave it last."""
    return log[log.rindex("assigned: partitions ") :].splitlines()[0]
