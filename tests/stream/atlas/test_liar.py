"""One more vehicle among Austin's buses, which drives their streets and reports where it never was."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from model.atlas import estimate, outcomes, published, sums
from model.atlas.outcomes import HORIZONS_S, NEVER, Outcomes
from model.atlas.published import UNIT
from model.atlas.sums import Sums
from stream.adapters.options import recording_of
from stream.atlas.follower import Follower
from stream.demo.run import SAMPLE
from stream.kafka.records.record_columns import Records
from stream.wire import Record

KNOWN_BY = 0.6  # the share of the sample's time from which the atlas is made; the later pings are asked about


class Fleet(NamedTuple):
    """Pings that move, with their outcomes."""

    found: Outcomes
    ids: sums.Ids
    ts_ms: NDArray[np.int64]

    @property
    def begin_ms(self) -> int:
        return int(self.ts_ms.min() + KNOWN_BY * (self.ts_ms.max() - self.ts_ms.min()))

    def sums(self) -> Sums:
        counts = sums.counted(self.ids, self.found.key, self.ts_ms)
        return Sums.of_outcomes(self.found, counts, self.ids, *np.nonzero(self.found.known_ms < self.begin_ms))


@cache
def buses() -> Fleet:
    rows = recording_of(str(SAMPLE), None).in_order()
    records = [Record("", 0, place, -1, row.key, row.value) for place, row in enumerate(rows)]
    pings = Follower().fold(Records.of(records))
    found = outcomes.of_tracks(pings.fixes, np.flatnonzero(pings.begins))
    return Fleet(found, pings.ids[found.row], pings.fixes["ts_ms"][found.row])


def with_liar(fleet: Fleet, kind: str) -> Fleet:
    """Adds a vehicle that is on the street of some bus in each quarter of an hour, and whose outcomes are lies."""
    rng = np.random.default_rng(7)
    slot = fleet.ts_ms // sums.SLOT_MS
    rows = np.concatenate(
        [
            np.flatnonzero((slot == one) & (fleet.ids == rng.choice(np.unique(fleet.ids[slot == one]))))
            for one in np.unique(slot)
        ]
    )
    size = {"far": 89.0 * np.array(HORIZONS_S), "near": np.full(len(HORIZONS_S), 1_000.0)}[kind.split()[0]]
    turn = rng.uniform(0, 2 * np.pi, len(rows)) if kind.endswith("everywhere") else np.zeros(len(rows))
    lies = 100 * size[:, None] * np.stack([np.cos(turn), np.sin(turn)], axis=-1)[:, None]
    found = fleet.found
    more: dict[str, Any] = {
        "row": np.append(found.row, found.row[rows]),
        "key": np.concatenate([found.key, found.key[rows]]),
        "off_cm": np.concatenate([found.off_cm, lies.astype(np.int32)]),
        "known_ms": np.concatenate([found.known_ms, found.known_ms[rows]]),
    }
    ids = np.append(fleet.ids, np.full(len(rows), sums.entity_ids(["liar"])[0]))
    return Fleet(Outcomes(**more), ids, np.append(fleet.ts_ms, fleet.ts_ms[rows]))


def errors_m(atlas: Sums) -> NDArray[np.float64]:
    """The mean errors [H] of what an atlas says about the buses' later pings."""
    fleet = buses()
    later = np.flatnonzero(fleet.ts_ms >= fleet.begin_ms)
    made = published.published([(atlas, UNIT)])
    dt_s = np.broadcast_to(HORIZONS_S, (len(later), len(HORIZONS_S)))
    said = estimate.read(made, fleet.found.key[later], dt_s, np.full(dt_s.shape, 200.0**2))
    off = fleet.found.off_cm[later] / 100 - said.off_m
    known = fleet.found.known_ms[later] < NEVER
    return np.asarray((np.hypot(off[..., 0], off[..., 1]) * known).sum(axis=0) / known.sum(axis=0))


@pytest.mark.parametrize("kind", ["far east", "far everywhere", "near east", "near everywhere"])
def test_one_receiver_that_lies_makes_the_forecasts_of_the_others_at_most_a_hundredth_worse(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, lied = buses().sums(), with_liar(buses(), kind).sums()
    assert lied.n.sum() > 1.01 * honest.n.sum()
    worse = errors_m(lied) / errors_m(honest)
    assert (worse < 1.01).all(), worse
    monkeypatch.setattr(published, "_shares", lambda n, *_: np.ones(n.shape))
    if kind.startswith("far"):
        worse = errors_m(lied) / errors_m(honest)
        assert (worse > 1.02).all(), f"without the rule: {worse}"


def test_the_rule_costs_honest_buses_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """In two hours of 36 buses, when most keys have three or four, it costs most."""
    with_it = errors_m(buses().sums())
    monkeypatch.setattr(published, "_shares", lambda n, *_: np.ones(n.shape))
    assert (with_it / errors_m(buses().sums())).mean() < 1.01
