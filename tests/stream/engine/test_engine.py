"""What the engine answers, from record bytes on, with a real model: forecasts, gap fills, dead letters."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from engine_rig import (
    M_PER_DEG,
    SETTINGS,
    T0,
    A,
    B,
    Rig,
    assert_close,
    code_of,
    forecasts,
    gap_fills,
    letters,
    ping,
    spelt,
    steady,
)

from model.api import ModelConfig, Predictor
from model.parameters.untrained import untrained
from stream.store.base import MemoryStore
from stream.wire import MAX_TS_MS, Ping, dumps, loads_forecast, loads_gapfill
from stream.wire.ids import forecast_id

# -- one answer for each record --------------------------------------------------------------------------------------


async def test_a_ping_is_answered_with_its_forecast(rig: Rig) -> None:
    (answer,) = await rig.batch(ping("bus-1", 0))
    forecast = loads_forecast(answer.value or b"")
    assert (answer.topic, answer.key) == (SETTINGS.topics.forecasts, b"bus-1")
    assert dict(answer.headers)["ce_id"] == forecast.forecast_id.encode()
    version = rig.make().version
    assert forecast.forecast_id == forecast_id("bus-1", T0, version)
    assert (forecast.model.name, forecast.model.version) == ("tiny-1", version)
    assert (forecast.anchor.ts, forecast.anchor.lat, forecast.anchor.lon) == (T0, 30.0, -97.0)
    assert [horizon.h_s for horizon in forecast.horizons] == [60, 300, 900]
    assert (forecast.window.n, forecast.window.from_ts, forecast.window.to_ts) == (1, T0, T0)
    assert (forecast.status, forecast.cache) == ("warmup", "none")
    assert (forecast.src.topic, forecast.src.partition, forecast.src.offset) == (*A, 0)
    assert (forecast.latency_ms.ingest, forecast.latency_ms.queue, forecast.latency_ms.infer) == (0, 10, 10)


@pytest.mark.parametrize("stamp_ms", [-1, MAX_TS_MS + 1, 2**62, 2**63 - 1])
async def test_a_record_whose_timestamp_is_no_time_is_answered_without_a_clock(rig: Rig, stamp_ms: int) -> None:
    """One beyond 9e15 once made a `step_failed` of a sound ping, and nine such entities stopped the worker for good."""
    rig.stamp_ms = stamp_ms
    answers = await rig.batch(*steady("bus-1", 9), ping("bus-1", 400))
    answers += await rig.batch(ping("bus-2", 24 * 3600 * 365, 0))
    assert not letters(answers), "no clock but the absolute bounds"
    assert [answer["latency_ms"] for answer in forecasts(answers)] == [
        {"ingest": 0.0, "queue": 10.0, "infer": 10.0}
    ] * 11
    assert [fill["issued_ts"] for fill in gap_fills(answers)][:1] == [T0 + 400_000], "the same in any replay"


async def test_ids_are_those_of_wire_whatever_the_entity_is_called(rig: Rig) -> None:
    names = ["über", "x" * 128, 'a"b\\', "bus-1"]
    answers = await rig.batch(*(ping(name, 10 * n) for n, name in enumerate([*names, *names])))
    version = rig.make().version
    assert [loads_forecast(one.value or b"").forecast_id for one in answers] == [
        forecast_id(name, T0 + 10_000 * n, version) for n, name in enumerate([*names, *names])
    ]


async def test_a_forecast_is_no_warmup_from_the_eighth_ping_on(rig: Rig) -> None:
    answers = forecasts(await rig.feed(*steady("bus-1", 10)))
    assert [answer["status"] for answer in answers] == ["warmup"] * 7 + ["ok"] * 3
    assert [answer["cache"] for answer in answers] == ["none"] + ["hit"] * 9


async def test_published_numbers_are_rounded(rig: Rig) -> None:
    answer = forecasts(await rig.feed(*steady("bus-1", 12)))[-1]

    def digits(number: float) -> int:
        return len(f"{number:.12f}".rstrip("0").partition(".")[2])

    places = [answer["anchor"], *answer["horizons"]]
    assert all(digits(place[name]) <= 7 for place in places for name in ("lat", "lon"))
    assert digits(answer["next"]["dt_s"]) <= 3
    assert digits(answer["next"]["d_east_m"]) <= 2
    assert answer["next"]["d_lat"] == pytest.approx(answer["next"]["d_north_m"] / M_PER_DEG, abs=2e-7)


async def test_a_written_forecast_is_what_wire_says_it_is(rig: Rig) -> None:
    """Field by field in its order, with nothing more and nothing else, whatever the entity is called."""
    odd = 'bus "7"\\é\u2603'
    answers = await rig.batch(*steady("bus-1", 9), *(ping(odd, 10 * n) for n in range(3)), ping("bus-1", 95))
    for answer in answers:
        assert answer.value is not None
        assert json.dumps(json.loads(answer.value)) == json.dumps(json.loads(dumps(loads_forecast(answer.value))))
    assert {loads_forecast(answer.value or b"").entity_id for answer in answers} == {"bus-1", odd}


async def test_a_forecast_says_how_early_and_how_late_the_next_ping_may_be(rig: Rig) -> None:
    said = forecasts(await rig.batch(*steady("bus-1", 20)))
    assert all(0 < one["next"]["dt_early_s"] < one["next"]["dt_s"] < one["next"]["dt_late_s"] for one in said)
    # After intervals of 10 s, one of 300 s: nobody knows which is the rule.
    (silent,) = forecasts(await rig.feed(ping("bus-1", 490)))
    shares = [one["next"]["dt_late_s"] / one["next"]["dt_early_s"] for one in (said[-1], silent)]
    assert shares[1] > 2 * shares[0]


async def test_a_rejected_record_comes_back_byte_identical_with_its_reason(rig: Rig) -> None:
    junk = b'{"entity_id": "bus-1",\xff\x00 not json'
    record = rig.record(junk, key=b"\x80key")
    (letter,) = await rig.engine.process([record], started_ms=0, fetched_ms=0)
    assert (letter.topic, letter.key, letter.value) == (SETTINGS.topics.dead_letters, b"\x80key", junk)
    assert letter.headers[0] == ("trace", b"\x00\xff")
    assert code_of(letter) == "invalid_utf8"
    assert dict(letter.headers)["__pathcast.errors.stage"] == b"clean"


# Those that are read compiled, and those that are left to `clean`.
UNKNOWN = [
    {"speed_mps": "-1", "heading_deg": "-1"},
    {"speed_mps": "NaN", "trip_id": "12"},
    {"sats": "7.0", "valid": "true"},
]


async def test_a_field_that_cannot_be_is_absent_and_the_ping_is_answered(
    rig: Rig, make_predictor: Callable[[], Predictor]
) -> None:
    bare, seconds = Rig(make_predictor), [0, 10, 20, 400, 410, 420, 405]  # with a gap, and a late ping
    for at in seconds:
        await rig.feed(*(spelt(f"bus-{n}", at, **more) for n, more in enumerate(UNKNOWN)))
        await bare.feed(*(ping(f"bus-{n}", at) for n in range(len(UNKNOWN))))
    assert [(one.topic, one.key, one.value) for one in rig.out] == [(one.topic, one.key, one.value) for one in bare.out]
    assert not any(one.topic == SETTINGS.topics.dead_letters for one in rig.out)
    n = len(seconds)
    assert rig.counts.fields_dropped == {"speed_mps": 2 * n, "heading_deg": n, "trip_id": n}
    assert bare.counts.fields_dropped == {}
    await rig.crash()
    assert rig.counts.fields_dropped == {}, "a takeover counts nothing that was counted before"


async def test_a_quarantined_ping_is_a_dead_letter_of_the_track(rig: Rig) -> None:
    answers = await rig.batch(*steady("bus-1", 5), ping("bus-1", 50, 90_000), ping("bus-1", 60))
    (letter,) = letters(answers)
    assert (code_of(letter), dict(letter.headers)["__pathcast.errors.stage"]) == ("impossible_jump", b"track")
    assert answers.index(letter) == 5
    assert (rig.counts.rejects, rig.counts.quarantined, rig.counts.forecasts) == (1, 1, 6)


async def test_a_duplicate_is_counted_and_not_answered(rig: Rig) -> None:
    assert len(await rig.batch(*steady("bus-1", 3), ping("bus-1", 10))) == 3
    assert rig.counts.duplicates == 1


async def test_entities_of_one_name_in_two_partitions_are_two_also_in_one_batch(
    make_predictor: Callable[[], Predictor],
) -> None:
    store = MemoryStore()
    one, two = Rig(make_predictor, store, A), Rig(make_predictor, store, B)
    mixed = [r for n in range(4) for r in (one.record(ping("x", 10 * n)), two.record(ping("x", 10 * n)))]
    answers = forecasts(await one.engine.process(mixed, started_ms=0, fetched_ms=0))
    assert [answer["window"]["n"] for answer in answers] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert [(answer["src"]["partition"], answer["src"]["offset"]) for answer in answers] == [
        (p, n) for n in range(4) for p in (0, 1)
    ]
    assert (one.engine.counts[A].forecasts, one.engine.counts[B].forecasts) == (4, 4)
    assert sorted(one.engine.entities.values()) == [(1, 0), (1, 0)]


# -- sessions, late pings, gaps --------------------------------------------------------------------------------------


async def test_a_new_session_forgets_the_old_motion(rig: Rig, make_predictor: Callable[[], Predictor]) -> None:
    later = [ping("bus-1", 9_000 + 10 * n, 50 * n) for n in range(3)]
    answers = forecasts(await rig.feed(*steady("bus-1", 20), *later))
    fresh = forecasts(await Rig(make_predictor).feed(*later))
    assert_close(answers[-3:], fresh)
    assert rig.counts.restarts == 2


async def test_a_late_ping_is_answered_where_it_belongs_and_the_rest_go_on_as_if_it_had_come_in_time(
    rig: Rig, make_predictor: Callable[[], Predictor]
) -> None:
    pings = steady("bus-1", 20)
    shuffled = [*pings[:12], *pings[13:16], pings[12], *pings[16:]]
    ordered = {answer["anchor"]["ts"]: answer for answer in forecasts(await Rig(make_predictor).feed(*pings))}
    answers = forecasts(await rig.batch(*shuffled))
    late = answers[15]
    assert late["anchor"]["ts"] == pings[12].ts
    assert (late["status"], late["cache"], late["window"]["n"]) == ("stale", "rebuilt", 13)
    assert late["window"]["to_ts"] == pings[12].ts
    for answer in [late, *answers[16:]]:
        expected = ordered[answer["anchor"]["ts"]]
        assert_close(answer["next"], expected["next"])
        assert_close(answer["horizons"], expected["horizons"])
        assert answer["forecast_id"] == expected["forecast_id"]
    assert [answer["status"] for answer in answers[16:]] == ["ok"] * 4
    assert rig.counts.late == 1


@pytest.mark.parametrize("at_once", [False, True])
async def test_an_entity_s_first_pings_may_come_in_any_order(rig: Rig, at_once: bool) -> None:
    pings = steady("bus-1", 6)
    sent = [pings[1], pings[0], *pings[2:]]
    answers = await rig.batch(*sent) if at_once else await rig.feed(*sent)
    said = forecasts(answers)
    assert [(one["window"]["n"], one["status"]) for one in said[:3]] == [(1, "warmup"), (1, "stale"), (3, "warmup")]
    rig.engine.drop(A)
    (expected,) = forecasts((await rig.feed(*pings))[-1:])
    assert_close({**said[-1], "cache": "hit"}, expected)


async def test_a_gap_is_filled_at_once_and_revised_two_pings_later(rig: Rig) -> None:
    answers = await rig.feed(*steady("bus-1", 20), *steady("bus-1", 4, start_s=310))
    provisional, final = gap_fills(answers)
    assert [(fill["revision"], fill["status"]) for fill in (provisional, final)] == [(0, "provisional"), (1, "final")]
    assert provisional["gap_id"] == final["gap_id"]
    assert provisional["start"]["ts"] == T0 + 190_000
    assert provisional["end"]["ts"] == T0 + 310_000
    assert [point["ts"] - T0 for point in final["points"]] == [200_000 + 10_000 * n for n in range(11)]
    assert final["method"] == "model"
    assert final["reason"] == "silence"
    assert final["length_m"] >= 8 * 119
    assert final["max_sigma_m"] > 0
    where = [(answer.topic, loads_gapfill(answer.value or b"").revision) for answer in answers if gap_fills([answer])]
    assert len(where) == 2
    assert answers.index(next(a for a in answers if gap_fills([a]))) == 21, "right after the forecast of its ping"


async def test_a_late_ping_in_a_filled_gap_retracts_the_fill(rig: Rig) -> None:
    answers = await rig.feed(*steady("bus-1", 20), ping("bus-1", 310), ping("bus-1", 250), ping("bus-1", 320))
    provisional, retracted = gap_fills(answers)
    assert retracted["gap_id"] == provisional["gap_id"]
    assert (retracted["revision"], retracted["status"], retracted["reason"]) == (1, "retracted", "late")
    assert retracted["points"] == []


async def test_a_late_ping_in_a_gap_whose_fill_is_final_changes_no_fill(rig: Rig) -> None:
    answers = await rig.feed(*steady("bus-1", 20), *steady("bus-1", 3, start_s=310), ping("bus-1", 250))
    assert [fill["status"] for fill in gap_fills(answers)] == ["provisional", "final"]
    assert forecasts(answers)[-1]["status"] == "stale"


async def test_the_last_gap_of_a_session_becomes_final_with_the_state_of_that_session(rig: Rig) -> None:
    answers = await rig.feed(*steady("bus-1", 20), ping("bus-1", 310), ping("bus-1", 9_000, 0.0))
    provisional, final = gap_fills(answers)
    assert final["status"] == "final"
    assert_close(final["points"], provisional["points"])


async def test_a_model_that_is_not_finite_says_so() -> None:
    def broken() -> Predictor:
        weights = untrained(ModelConfig(name="tiny", d=16, blocks=2, heads=2, window=8), 0)
        for name, tensor in weights.tensors.items():
            if name.startswith(("forecast.", "gap.")):
                tensor.fill(np.nan)
        return Predictor(weights, name="tiny", capacity=4)

    answers = await Rig(broken).feed(*steady("bus-1", 20), *steady("bus-1", 1, start_s=310))
    said = forecasts(answers)
    assert {answer["status"] for answer in said} == {"fallback_cv"}
    assert "NaN" not in json.dumps(said)
    assert None not in [horizon["lat"] for answer in said for horizon in answer["horizons"]]
    assert gap_fills(answers)[0]["method"] != "model"


@pytest.mark.parametrize(
    ("lat", "lon", "d_lat", "d_lon"),
    [(90, 0, 0, 0), (89.9999, 0, 1e-4, 0), (-90, 10, 0, 1e-3), (10, 179.999, 0, 1e-3), (10, -179.999, 0, -1e-3)],
)
async def test_answers_stay_on_the_globe(rig: Rig, lat: float, lon: float, d_lat: float, d_lon: float) -> None:
    """At the poles a degree of longitude has no length, and at the antimeridian it jumps."""
    pings = [
        Ping(
            entity_id="x",
            ts=T0 + 10_000 * n + (200_000 if n > 15 else 0),
            lat=min(lat + n * d_lat, 90),
            lon=(lon + n * d_lon + 180) % 360 - 180,
        )
        for n in range(20)
    ]
    answers = await rig.batch(*pings)
    assert (len(forecasts(answers)), len(gap_fills(answers))) == (20, 2)
    places = [h for f in forecasts(answers) for h in f["horizons"]] + [
        p for g in gap_fills(answers) for p in g["points"]
    ]
    assert all(-90 <= place["lat"] <= 90 and -180 <= place["lon"] <= 180 for place in places)
    assert all(abs(f["next"]["d_lon"]) <= 180 for f in forecasts(answers))
