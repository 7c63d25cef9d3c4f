"""What a benchmark of a change of weights makes of the forecasts that it read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from stream.bench.swap.phases import PHASES, Answer, Load, Swap, bound_s, swap_of
from stream.bench.swap.run import COLUMNS, PHASE_COLUMNS, phase_rows, row_of
from stream.wire import WeightsRecord

ENTITIES, RATE, PINGS = 10, 10.0, 1_000  # each entity sends a ping a second, for 100 s, to one of two partitions
OWN, OTHER = "0" * 16, "1" * 16
START_S, ANNOUNCED_S, FIRST = 5_000.0, 5_030.0, 200  # the offset that is due after 40 s; the last follows after 50
RECORD = WeightsRecord(
    kind="weights",
    serial=1,
    version=OTHER,
    name="w",
    role="all",
    state="serving",
    parts=10_000,
    first={0: FIRST, 1: FIRST},
    ramp={0: 50, 1: 50},
    topic="t",
    reason="",
    issued_ts=0,
)


def version_at(at: int) -> str:
    """Entity e follows at its first ping at least e seconds behind the first."""
    return OTHER if at >= 2 * FIRST + 10 * (at % ENTITIES) else OWN


def answers(late: Sequence[int] = ()) -> list[Answer | None]:
    return [Answer(f"e{at % ENTITIES}", version_at(at), at in late, at % 2, at // 2) for at in range(PINGS)]


def measured(
    latency_ms: Callable[[float], float] = lambda after_s: 20.0,
    said: Sequence[Answer | None] | None = None,
    lost: Sequence[int] = (),
    moving_cpu: float = 0.0,
) -> Swap:
    """A worker that takes a fifth of a core, and `moving_cpu` more from 40 to 50 s, and waits a tenth of the time for
    one."""
    after_s = np.arange(PINGS) / RATE
    came_s = START_S + after_s + np.array([latency_ms(s) for s in after_s]) / 1000
    came_s[list(lost)] = np.nan
    looks = [
        Load(START_S + s, 0.2 * s + moving_cpu * min(max(s - 40, 0), 10), 0.1 * s)
        for s in np.arange(0, 101, 0.5).tolist()
    ]
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
        assert phase.ranks == pytest.approx([expected] * 4)
    assert found.ratios == pytest.approx([1.0, 2.0, 3.0, 4.0])
    assert len(found.p99_by_s) == 100
    assert found.p99_by_s[:3] == pytest.approx([1_000.0, 1_000.0, 10.0])


def test_all_are_rebuilt_when_the_last_entity_has_its_first_forecast_by_the_other_weights() -> None:
    found = measured()
    assert found.entities == ENTITIES
    assert found.rebuilt_s == pytest.approx(9.9 + 0.020)
    assert found.bound_s == bound_s(RECORD, ENTITIES, RATE) == pytest.approx(10.0 + 1.0)


def test_an_answer_that_comes_after_that_of_the_last_entity_counts() -> None:
    """Entity 4 follows at its ping of 44.4 s, whose forecast comes after 12 s."""
    found = measured(lambda s: 12_000.0 if s == 44.4 else 20.0)
    assert found.rebuilt_s == pytest.approx(4.4 + 12.0)
    assert found.phases["moving"].seconds == pytest.approx(9.9)


def test_an_entity_that_did_not_follow_is_an_error_and_not_left_out() -> None:
    said = [one if at % ENTITIES != 3 or one is None else one._replace(version=OWN) for at, one in enumerate(answers())]
    with pytest.raises(RuntimeError, match="9 of 10 entities followed"):
        measured(said=said)


def test_a_version_that_answered_before_its_announcement_has_not_followed_by_that() -> None:
    """The weights serve a second time, and their forecasts from the first time are in the log, too."""
    said = [one if at >= 2 * FIRST or one is None else one._replace(version=OTHER) for at, one in enumerate(answers())]
    assert measured(said=said).rebuilt_s == pytest.approx(9.9 + 0.020)


def test_what_moving_costs_is_beyond_the_load_of_the_time_before() -> None:
    found = measured(moving_cpu=0.3)
    assert found.phases["before"].part == pytest.approx(0.2)
    assert found.phases["moving"].part == pytest.approx(0.5)
    assert found.ms_per_state == pytest.approx(1000 * 0.3 * 9.9 / ENTITIES)


def test_missing_and_late_forecasts_are_counted() -> None:
    said = answers(late=[500, 501])
    said[700] = None
    found = measured(said=said, lost=[700, 701, 702])
    assert (found.late, found.missing) == (2, 3)


def test_rows_are_medians_of_the_runs_and_sums_of_what_must_not_be() -> None:
    runs = [measured(lambda s, ms=ms: ms if s < 40 else 2 * ms) for ms in (10.0, 30.0, 20.0)]  # type: ignore[misc]
    runs[1] = measured(lambda s: 30.0 if s < 40 else 120.0, said=answers(late=[9]), lost=[999])
    rows = [dict(zip(PHASE_COLUMNS, row, strict=True)) for row in phase_rows(runs)]
    assert [row["phase"] for row in rows] == list(PHASES)
    assert [row["p99 ms"] for row in rows] == pytest.approx([20.0, 20.0, 40.0, 40.0])
    assert [row["p99 / before"] for row in rows] == pytest.approx([1.0, 1.0, 2.0, 2.0])
    assert (rows[0]["worker, % of a core"], rows[0]["waits for a core, %"]) == pytest.approx((20.0, 10.0))
    told = dict(zip(COLUMNS, row_of(runs), strict=True))
    assert (told["late forecasts"], told["missing"], told["states moved"]) == (1, 1, ENTITIES)
    assert told["slowest run, s"] == pytest.approx(9.9 + 0.120)
