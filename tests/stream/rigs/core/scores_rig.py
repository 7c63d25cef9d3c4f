"""Forecasts of made-up fleets, as records of the forecasts topic, and their scores by definition. Tests import this; it
tests nothing itself.

The forecasts continue at the last step's velocity and then lean aside, with covariances of any shape: not good ones,
but ones whose scores differ from each other.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from forecast_rig import forecast_of
from scipy import stats

from stream.kafka.records.record_columns import Records
from stream.services.scores.scoring.scorer import Scorer
from stream.services.scores.scoring.waiting import LATENESS_MS, ScoringRules
from stream.wire import (
    Anchor,
    AtlasRef,
    Forecast,
    Horizon,
    ModelRef,
    NextStep,
    Outcome,
    Record,
    Score,
    Src,
    dumps,
    loads_forecast,
)
from stream.wire.ids import forecast_id
from stream.wire.positions import covariance, offset_en_m, position
from stream.wire.scoring import errors

T0: Final = 1_700_000_000_000
HORIZONS_S: Final = (60.0, 300.0, 900.0)
RULES: Final = ScoringRules()
PARTITION: Final = ("pathcast.forecasts.v1", 3)
M_PER_DEG: Final = 111_195.0


class Fix(NamedTuple):
    entity_id: str
    ts: int
    lat: float
    lon: float


@dataclass
class Fleet:
    """Makes the records that workers would publish for these fixes, in the order in which they are given."""

    rng: random.Random
    versions: Sequence[tuple[str, str | None]] = (("m1", None),)  # of weights and atlas; each answers each ping
    last: dict[str, Fix] = field(default_factory=dict)
    records: list[bytes] = field(default_factory=list)

    def answer(self, fix: Fix, source: int) -> None:
        before = self.last.get(fix.entity_id)
        for version, atlas in self.versions:
            self.records.append(dumps(self._forecast(fix, before, source, version, atlas)))
        if before is None or fix.ts > before.ts:
            self.last[fix.entity_id] = fix

    def _forecast(self, fix: Fix, before: Fix | None, source: int, version: str, atlas: str | None) -> Forecast:
        step_s = 30.0 if before is None else max(1.0, abs(fix.ts - before.ts) / 1000)
        d_lat = 0.0 if before is None else (fix.lat - before.lat) / step_s
        d_lon = 0.0 if before is None else (fix.lon - before.lon) / step_s

        def at(seconds: float) -> tuple[float, float]:
            lean = self.rng.gauss(0, 4e-6 * seconds**0.8)
            return round(fix.lat + d_lat * seconds * 0.9 + lean, 7), round(fix.lon + d_lon * seconds * 0.9 - lean, 7)

        def cov(seconds: float) -> tuple[float, float, float]:
            east, north = (self.rng.uniform(2, 12) * seconds**0.8 for _ in range(2))
            return round(east * east, 2), round(self.rng.uniform(-0.8, 0.8) * east * north, 2), round(north * north, 2)

        step_s = round(step_s * self.rng.uniform(0.7, 1.5), 3)
        lat, lon = at(step_s)
        d_lat, d_lon = lat - fix.lat, lon - fix.lon
        return forecast_of(
            fix.entity_id,
            Anchor(fix.ts, fix.lat, fix.lon),
            NextStep(dt_s=step_s, d_east_m=0, d_north_m=0, d_lat=d_lat, d_lon=d_lon, cov_m2=cov(step_s)),
            [Horizon(h_s, *at(h_s), cov(h_s)) for h_s in HORIZONS_S],
            forecast_id=forecast_id(fix.entity_id, fix.ts, version, atlas),
            model=ModelRef("made-up", version),
            atlas=None if atlas is None else AtlasRef(atlas, 7, False),
            status=self.rng.choice(["ok", "ok", "ok", "warmup"]),
            src=Src("pathcast.pings.v1", 0, source),
        )


def fixes(rng: random.Random, entities: int, minutes: float) -> list[Fix]:
    """The tracks of a fleet in the order in which they come: some pings late, some entities silent for a while or for
    ever, cadences from 2 s to 5 minutes.
    """
    arriving: list[tuple[float, Fix]] = []
    for number in range(entities):
        name = f"e{number}"
        cadence_s = math.exp(rng.uniform(math.log(2), math.log(300)))
        seconds, lat, lon = rng.uniform(0, 300), 30 + rng.random(), -97 + rng.random()
        course, stops_at = rng.uniform(0, 6.28), rng.choice([math.inf, math.inf, rng.uniform(0, 60 * minutes)])
        while seconds < min(60 * minutes, stops_at):
            late_s = rng.choice([0.0] * 9 + [rng.uniform(0, 0.9 * LATENESS_MS / 1000)])
            arriving.append((seconds + late_s, Fix(name, T0 + round(1000 * seconds), round(lat, 7), round(lon, 7))))
            step_s = cadence_s * rng.uniform(0.5, 1.5) + 2
            step_s += rng.choice([0.0] * 40 + [600.0, 2_000.0, 4_000.0])
            course += rng.gauss(0, 0.3)
            metres = min(step_s, 300) * rng.uniform(0, 15)
            lat, lon = lat + metres * math.cos(course) / M_PER_DEG, lon + metres * math.sin(course) / M_PER_DEG
            seconds += step_s
    return [fix for _, fix in sorted(arriving, key=lambda pair: pair[0])]


def answered(fixes: Iterable[Fix], versions: Sequence[tuple[str, str | None]] = (("m1", None),)) -> list[bytes]:
    """The records of these fixes."""
    fleet = Fleet(random.Random(0), versions)
    for source, fix in enumerate(fixes):
        fleet.answer(fix, source)
    return fleet.records


def records(seed: int, entities: int = 6, minutes: float = 150, copies: bool = True) -> list[bytes]:
    """A partition of the forecasts topic: two versions of weights and one that asks an atlas; some records twice."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    fleet = Fleet(rng, [("m1", None), ("m2", "a1")])
    for source, fix in enumerate(fixes(rng, entities, minutes)):
        fleet.answer(fix, source)
        if copies and rng.random() < 0.05:  # as a worker that was killed before its commit
            fleet.records += fleet.records[-rng.randint(1, 20) :]
    return fleet.records


def rows(log: Sequence[bytes], low: int, high: int) -> Records:
    """Some records of a log, as a member polls them."""
    return Records.of([Record(*PARTITION, offset, 0, None, log[offset]) for offset in range(low, high)])


def scored(log: Iterable[bytes], scorer: Scorer | None = None) -> list[Score]:
    scorer = scorer or Scorer(RULES)
    return [score for offset, raw in enumerate(log) for score in scorer.fold(offset, raw)]


def score(number: int, version: str = "a", error_m: float = 10.0, damped_m: float | None = 20.0, **more: Any) -> Score:
    """One of many, of five entities in turn."""
    fields: dict[str, Any] = {
        "forecast_id": f"{version}-{number}",
        "entity_id": f"e{number % 5}",
        "anchor_ts": 1_000 * number,
        "model": ModelRef("m", version),
        "status": "ok",
        "next": Outcome(None, 30.0, error_m, damped_m, error_m < 15, error_m < 30),
        "horizons": (Outcome(60.0),),
    }
    return Score(**{**fields, **more})


# -- by definition ----------------------------------------------------------------------------------------------------


def by_definition(log: Sequence[bytes]) -> dict[str, Score]:
    """The scores of a log, by id, each looked for in all of it: without those whose time has not come."""
    every = [loads_forecast(raw) for raw in log]
    now_ms = _event_times(every)
    found: dict[str, Score] = {}
    for session in _sessions(every, now_ms):
        for place, i in enumerate(session):
            forecast = every[i]
            ts = forecast.anchor.ts
            if any(every[j].forecast_id == forecast.forecast_id for j in session[:place]):
                continue  # a copy
            upto = [j for j in session if max(every[k].anchor.ts for k in session if k <= j) >= ts + RULES.span_ms]
            if not upto and now_ms[-1] - now_ms[session[-1]] < RULES.span_ms and session[-1] == _last(every, forecast):
                continue  # its time has not come
            known = [every[j].anchor for j in session if not upto or j <= upto[0]]
            earlier = [every[j].anchor for j in session[:place] if every[j].anchor.ts < ts]
            before = max(earlier, key=lambda ping: ping.ts, default=None)
            found[forecast.forecast_id] = _score(forecast, before, known)
    return found


def _event_times(every: Sequence[Forecast]) -> list[int]:
    """The time that two entities have reached, after each record."""
    newest: dict[str, int] = {}
    found = []
    for one in every:
        newest[one.entity_id] = max(newest.get(one.entity_id, 0), one.anchor.ts)
        found.append(sorted([0, 0, *newest.values()])[-2])
    begin = next((ms for ms in found if ms), 0)  # while there is one entity alone, no time passes
    return [ms or begin for ms in found]


def _sessions(every: Sequence[Forecast], now_ms: Sequence[int]) -> list[list[int]]:
    """The records of each entity, cut where the others went on by the span without it."""
    sessions: list[list[int]] = []
    current: dict[str, list[int]] = {}
    for i, one in enumerate(every):
        session = current.get(one.entity_id)
        if session is None or now_ms[i] - now_ms[session[-1]] >= RULES.span_ms:
            session = current[one.entity_id] = []
            sessions.append(session)
        session.append(i)
    return sessions


def _last(every: Sequence[Forecast], forecast: Forecast) -> int:
    return max(i for i, one in enumerate(every) if one.entity_id == forecast.entity_id)


def _score(forecast: Forecast, before: Anchor | None, known: Sequence[Anchor]) -> Score:
    ts = forecast.anchor.ts
    later = sorted({ping.ts: ping for ping in known if ping.ts > ts}.values(), key=lambda ping: ping.ts)
    horizons = []
    for horizon in forecast.horizons:
        off = {
            abs(ping.ts - ts - 1000 * horizon.h_s): ping for ping in reversed(later)
        }  # the earlier of two equal ones
        nearest = min(off, default=math.inf)
        near = nearest <= 0.2 * 1000 * horizon.h_s
        horizons.append(_outcome(forecast, before, off[nearest] if near else None, horizon.h_s))
    steps = [ping for ping in later if ping.ts - ts <= 1_080_000]
    return Score(
        forecast_id=forecast.forecast_id,
        entity_id=forecast.entity_id,
        anchor_ts=ts,
        model=forecast.model,
        atlas=forecast.atlas,
        status=forecast.status,
        next=_outcome(forecast, before, steps[0] if steps else None, None),
        horizons=tuple(horizons),
    )


def _outcome(forecast: Forecast, before: Anchor | None, target: Anchor | None, h_s: float | None) -> Outcome:
    if target is None:
        return Outcome(h_s)
    ahead_s = (target.ts - forecast.anchor.ts) / 1000
    off = None if before is None else errors(forecast, before, target)
    lat, lon = position(forecast, ahead_s)
    error = np.array(offset_en_m(lat, lon, target.lat, target.lon, forecast.anchor.lat))
    ee, en, nn = covariance(forecast, ahead_s)
    scale = np.array([[ee, en], [en, nn]]) / 1.878
    squared = float(error @ np.linalg.solve(scale, error))
    probability = stats.f.cdf(squared / 2, 2, 4)  # of Student's t in two dimensions, with 4 degrees of freedom
    model_m = errors(forecast, Anchor(forecast.anchor.ts - 1, 0.0, 0.0), target).model if off is None else off.model
    return Outcome(
        h_s=h_s,
        dt_s=ahead_s,
        error_m=round(model_m, 2),
        damped_error_m=None if off is None else round(off.damped_velocity, 2),
        inside50=bool(probability <= 0.5),
        inside90=bool(probability <= 0.9),
    )
