"""What a benchmark of a change of weights makes of the forecasts that it read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from bench_swap import COLUMNS, PHASE_COLUMNS, phase_rows, row_of
from swap_phases import PHASES, Answer, Load, Swap, swap_of

from stream.wire import WeightsRecord

ENTITIES, RATE, PINGS = 10, 10.0, 1_000  # each entity sends a ping a second, for 100 s, to one of two partitions
OWN, OTHER = "0" * 16, "1" * 16
START_S, ANNOUNCED_S, FIRST = 5_000.0, 5_030.0, 200  # the offset that is due after 40 s; the last follows after 50
WHAT: dict[str, Any] = {"kind": "weights", "serial": 1, "name": "w", "role": "all", "state": "serving", "parts": 10_000}
WHERE: dict[str, Any] = {"first": {0: FIRST, 1: FIRST}, "ramp": {0: 50, 1: 50}, "topic": "t"}
RECORD = WeightsRecord(version=OTHER, reason="", issued_ts=0, **WHAT, **WHERE)


def answers() -> list[Answer]:
    """Entity e follows at its first ping at least e seconds behind the first."""
    versions = [OTHER if at >= 2 * FIRST + 10 * (at % ENTITIES) else OWN for at in range(PINGS)]
    return [Answer(f"e{at % ENTITIES}", version, False, at % 2, at // 2) for at, version in enumerate(versions)]


def measured(
    latency_ms: Callable[[float], float] = lambda after_s: 20.0,
    said: Sequence[Answer | None] | None = None,
    lost: Sequence[int] = (),
) -> Swap:
    """A worker that takes a fifth of a core, and a third of one more from 40 to 50 s, and waits a tenth of the time."""
    after_s = np.arange(PINGS) / RATE
    came_s = START_S + after_s + np.array([latency_ms(s) for s in after_s]) / 1000
    came_s[list(lost)] = np.nan
    looks = [Load(START_S + s, 0.2 * s + 0.3 * min(max(s - 40, 0), 10), 0.1 * s) for s in range(101)]
    more: dict[str, Any] = {"entities": ENTITIES, "rate_per_s": RATE, "settle_s": 2.0, "moved": ENTITIES}
    return swap_of(START_S + after_s, came_s, answers() if said is None else said, RECORD, ANNOUNCED_S, looks, **more)


def test_each_ping_is_of_the_phase_in_which_it_is_due() -> None:
    """Each phase has its own latency; that of the first 2 s, and of nobody else, is a second."""

    def latency_ms(s: float) -> float:
        return 1_000.0 if s < 2 else 10.0 if s < 30 else 20.0 if s < 40 else 30.0 if s < 49.9 else 40.0

    found = measured(latency_ms)
    assert tuple(found.phases) == PHASES
    assert [round(one.seconds, 6) for one in found.phases.values()] == [28.0, 10.0, 9.9, 50.0]
    for phase, expected in zip(found.phases.values(), (10.0, 20.0, 30.0, 40.0), strict=True):
        assert phase.ranks == pytest.approx([expected] * 3)
    assert found.ratios == pytest.approx([1.0, 2.0, 3.0, 4.0])


def test_all_are_rebuilt_when_the_last_entity_has_its_first_forecast_by_the_other_weights() -> None:
    """Entity 4 follows at its ping of 44.4 s, whose forecast comes after 12 s. What other weights answered before they
    were announced, when they served once before, does not count."""
    before = [one if at >= 2 * FIRST else one._replace(version=OTHER) for at, one in enumerate(answers())]
    for said in (None, before):
        found = measured(said=said)
        assert found.entities == ENTITIES
        assert (found.rebuilt_s, found.bound_s) == pytest.approx((9.9 + 0.020, 10.0 + 1.0))
    assert measured(lambda s: 12_000.0 if s == 44.4 else 20.0).rebuilt_s == pytest.approx(4.4 + 12.0)
    with pytest.raises(RuntimeError, match="9 of 10 entities followed"):
        measured(said=[one if at % ENTITIES != 3 else one._replace(version=OWN) for at, one in enumerate(answers())])


def test_rows_are_medians_of_the_runs_and_sums_of_what_must_not_be() -> None:
    runs = [measured(lambda s, ms=ms: ms if s < 40 else 2 * ms) for ms in (10.0, 20.0)]  # type: ignore[misc]
    said: list[Answer | None] = [one._replace(late=at == 9) for at, one in enumerate(answers())]
    runs.append(measured(lambda s: 30.0 if s < 40 else 120.0, said=[*said[:-1], None], lost=[999]))
    rows = [dict(zip(PHASE_COLUMNS, row, strict=True)) for row in phase_rows(runs)]
    assert [row["p99 ms"] for row in rows] == pytest.approx([20.0, 20.0, 40.0, 40.0])
    assert [row["p99 / before"] for row in rows] == pytest.approx([1.0, 1.0, 2.0, 2.0])
    assert (rows[0]["worker, % of a core"], rows[0]["waits for a core, %"]) == pytest.approx((20.0, 10.0))
    told = dict(zip(COLUMNS, row_of(runs), strict=True))
    assert (told["late forecasts"], told["missing"], told["states moved"]) == (1, 1, ENTITIES)
    assert told["slowest run, s"] == pytest.approx(9.9 + 0.120)
    assert told["CPU ms per state"] == pytest.approx(1000 * 0.3 * 9.9 / ENTITIES)
