"""Drift: what changes for good is told soon, what does not is never told, and a watch survives in a commit."""

from __future__ import annotations

import asyncio
import heapq
import math
import random
from functools import cache

import msgspec
import pytest
from river.drift import PageHinkley
from scores_rig import M_PER_DEG, RULES, T0

from stream.commands.replay import engine_of
from stream.config.settings import UNLIMITED, Settings
from stream.kafka.records.record_columns import Records
from stream.services.scores.scoring import drift
from stream.services.scores.scoring.drift import BLOCK, REFERENCE, State, Watch, Watches, log_skill
from stream.services.scores.scoring.scorer import Scorer
from stream.wire import Drift, Ping, Record, dumps, dumps_scored, loads_scored

pytestmark = pytest.mark.slow

PINGS, CHANGE = 10_500, 5_000  # of the fleet, and when it changes
SOON = 500  # pings of the partition: stream/services/scores/README.md states it
SETTINGS = Settings(max_stored_entities=UNLIMITED)


def fleet(seed: int, noise: float, cadence: float) -> list[Ping]:
    """40 vehicles of a town with a ping every 15 s and a receiver's error of 5 m; from ping CHANGE on with so many
    times that error, and so many times that interval.
    """
    rng = random.Random(seed)
    places = [
        [30 + rng.random() / 5, rng.random() / 5 - 97, rng.uniform(0, 6.28), rng.uniform(5, 15)] for _ in range(40)
    ]
    due = [(rng.uniform(0, 15), number, 0.0) for number in range(40)]
    heapq.heapify(due)
    pings: list[Ping] = []
    while len(pings) < PINGS:
        seconds, number, before = heapq.heappop(due)
        place, step_s, is_changed = places[number], seconds - before, len(pings) >= CHANGE
        place[2] += rng.gauss(0, 0.02 * math.sqrt(step_s))
        place[2] += rng.choice([-1.57, 1.57]) if rng.random() < step_s / 120 else 0.0
        place[3] = min(20.0, max(2.0, place[3] + rng.gauss(0, 0.3 * math.sqrt(step_s))))
        place[0] += place[3] * step_s * math.cos(place[2]) / M_PER_DEG
        place[1] += place[3] * step_s * math.sin(place[2]) / (0.866 * M_PER_DEG)
        error_deg = 5.0 * (noise if is_changed else 1.0) / M_PER_DEG
        lat, lon = place[0] + rng.gauss(0, error_deg), place[1] + rng.gauss(0, error_deg)
        pings.append(Ping(entity_id=f"e{number}", ts=T0 + round(1000 * seconds), lat=lat, lon=lon))
        step_s = 15.0 * (cadence if is_changed else 1.0)
        heapq.heappush(due, (seconds + step_s * rng.uniform(0.8, 1.2), number, seconds))
    return pings


@cache
def drifts(seed: int, noise: float = 1.0, cadence: float = 1.0) -> list[tuple[int, Drift]]:
    """What is told of that fleet, forecast by the shipped weights: each with the number of the last ping that was
    scored before.
    """
    print(f"seed {seed}")
    pings = fleet(seed, noise, cadence)
    rows = [
        Record(SETTINGS.topics.pings, 0, n, ping.ts, ping.entity_id.encode(), dumps(ping))
        for n, ping in enumerate(pings)
    ]
    engine = engine_of(SETTINGS)

    async def answered() -> list[bytes]:
        found: list[bytes] = []
        for first in range(0, PINGS, 4_096):
            part = Records.of(rows[first : first + 4_096])
            answers = await engine.process(part, started_ms=0.0, fetched_ms=0.0)
            found += [one.value or b"" for one in answers if one.topic == SETTINGS.topics.forecasts]
        return found

    scorer, watches = Scorer(RULES), Watches("forecasts", 0)
    number = {(ping.entity_id, ping.ts): n for n, ping in enumerate(pings)}
    told = []
    for offset, raw in enumerate(asyncio.run(answered())):
        for score in scorer.fold(offset, raw):
            last = number[score.entity_id, score.anchor_ts]
            told += [(last, one) for one in watches.add(score, offset)]
    return told


@pytest.mark.parametrize("seed", [1, 2])
def test_a_fleet_whose_pings_turn_noisy_is_told_soon(seed: int) -> None:
    (last, first), *_ = drifts(seed, noise=5.0)
    assert CHANGE <= last <= CHANGE + SOON
    assert first.measured == "error"
    assert first.after > first.before + 0.5


@pytest.mark.parametrize("seed", [1, 2])
def test_a_fleet_whose_cadence_triples_is_told_soon(seed: int) -> None:
    (last, first), *_ = [one for one in drifts(seed, cadence=3.0) if one[1].measured == "cadence"]
    assert CHANGE <= last <= CHANGE + SOON
    assert first.before == pytest.approx(math.log(15), abs=0.05)
    assert first.after == pytest.approx(math.log(45), abs=0.1)


@pytest.mark.parametrize("seed", [1, 2])
def test_of_a_fleet_that_stays_as_it_is_nothing_is_told(seed: int) -> None:
    assert drifts(seed) == []


def test_of_a_hundred_thousand_scores_that_stay_as_they_are_nothing_is_told() -> None:
    rng = random.Random(0)
    watch = Watch(0.01)
    assert not any(watch.add(rng.gauss(0, 1)) for _ in range(100_000))


def values(rng: random.Random) -> list[float]:
    return [rng.gauss(0.0 if n < 6_000 else 0.4, 1) for n in range(9_000)]


def test_a_watch_that_was_committed_goes_on_as_it_was() -> None:
    """A successor gets a watch as JSON, after any score."""
    numbers = values(random.Random(3))
    whole, parts, found, expected = Watch(0.01), Watch(0.01), [], []
    for place, value in enumerate(numbers):
        if place % 97 == 0:
            parts = Watch(0.01, msgspec.json.decode(msgspec.json.encode(parts.state), type=State))
        expected.append(whole.add(value))
        found.append(parts.add(value))
    assert found == expected
    assert sum(change is not None for change in found) == 1
    assert whole.state == parts.state


def test_the_test_is_rivers() -> None:
    """If river keeps other numbers, a watch would not go on as it was: this compares it with an untouched one."""
    numbers = values(random.Random(4))
    blocks = [sum(numbers[at : at + BLOCK]) / BLOCK for at in range(0, len(numbers) - BLOCK + 1, BLOCK)]
    watch = Watch(1e-9)
    found = next(place for place, value in enumerate(numbers) if watch.add(value)) - (drift.AFTER - 1) * BLOCK
    reference = blocks[:REFERENCE]
    mean = sum(reference) / REFERENCE
    deviation = math.sqrt(sum((one - mean) ** 2 for one in reference) / REFERENCE)
    test = PageHinkley(min_instances=1, delta=drift.SLACK, threshold=drift.THRESHOLD, alpha=1.0)
    looked = 0
    while not test.drift_detected:
        test.update(min(drift.MOST, max(-drift.MOST, (blocks[looked] - mean) / deviation)))
        looked += 1
    assert looked * BLOCK - 1 == found


def test_errors_below_a_metre_are_no_skill() -> None:
    assert log_skill(0.0, 0.0) == 0.0
    assert log_skill(0.01, 0.9) == 0.0
    assert log_skill(50.0, 100.0) == pytest.approx(-math.log(2))


def test_a_drift_is_read_as_it_was_written() -> None:
    ((_, told), *_) = drifts(1, noise=5.0)
    assert loads_scored(dumps_scored(told)) == told
    assert b'"kind":"drift"' in dumps_scored(told)
