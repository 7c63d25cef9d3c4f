"""Which pings of a batch the model takes in at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pytest
from engine_rig import SETTINGS, Rig, forecasts, ping, steady

from model.api import Predictor
from stream.engine.batch import Outcome, Rows
from stream.tracks.track import Accepted, Late, Verdict
from stream.tracks.track_table import NOT_ASKED
from stream.wire import Outgoing, loads_gapfill

PLAIN, RESTART, LATE, NOTHING = "plain", "restart", "late", "nothing"


@pytest.mark.parametrize(
    ("entities", "steps"),
    [
        ([[PLAIN, PLAIN], [PLAIN]], [0, 0, 0]),
        ([[PLAIN, RESTART, PLAIN], [PLAIN, PLAIN]], [0, 1, 1, 0, 0]),
        ([[PLAIN, LATE, PLAIN], [PLAIN]], [0, 1, 2, 0]),
        ([[LATE, LATE, RESTART], [RESTART, PLAIN], [PLAIN]], [0, 1, 2, 0, 0, 0]),
        ([[NOTHING, PLAIN, NOTHING, LATE, NOTHING, PLAIN], [NOTHING]], [-1, 0, -1, 1, -1, 2, -1]),
        ([[LATE], [PLAIN], [LATE, PLAIN]], [0, 0, 0, 1]),
        ([[NOTHING]], [-1]),
        ([], []),
    ],
)
def test_a_step_ends_where_a_state_is_not_simply_followed(entities: list[list[str]], steps: list[int]) -> None:
    kinds = [kind for pings in entities for kind in pings]
    slots = np.repeat(np.arange(len(entities)) * 3, [len(pings) for pings in entities]).astype(np.int64)
    taken = np.array([kind != NOTHING for kind in kinds], np.int64)
    index, fixes, offsets = np.zeros((3, len(kinds)), np.int64)
    rows = Rows(index, slots, fixes, offsets, taken, taken, NOT_ASKED)
    verdicts: dict[str, Verdict] = {RESTART: Accepted(restart=True), LATE: Late(0), PLAIN: Accepted()}
    outcomes = [
        Outcome(row, row, *cast("tuple[Any, Any, Any]", (None,) * 3), verdicts[kind])
        for row, kind in enumerate(kinds)
        if kind not in (PLAIN, NOTHING)
    ]
    found = np.full(len(kinds), -1)
    for step, (places, some) in enumerate(rows.steps(outcomes)):
        found[places] = step
        assert (np.diff(places) > 0).all(), "an entity's pings lie in order"
        assert [outcome.row for outcome in some] == [outcome.row for outcome in outcomes if steps[outcome.row] == step]
    assert found.tolist() == steps


class Counting(Predictor):
    """Remembers the rows of each step."""

    rows: tuple[int, ...] = ()

    def answer(self, slots: Any, fixes: Any, counts: Any, horizons_s: Any, guide: Any = None) -> Any:
        self.rows += (len(fixes),)
        return super().answer(slots, fixes, counts, horizons_s, guide)


async def test_a_backlog_of_a_few_entities_is_one_step(make_predictor: Callable[..., Predictor]) -> None:
    predictor = cast(Counting, make_predictor(kind=Counting))
    rig = Rig(lambda: predictor)
    answers = await rig.batch(*steady("bus-1", 40), *steady("bus-2", 30), ping("bus-1", 600), ping("bus-2", 600))
    said = forecasts(answers)
    assert predictor.rows == (len(said),) == (72,), "gaps are filled from the states as they were in the midst of it"
    windows = [one["window"] for one in said if one["entity_id"] == "bus-2"]
    assert [(one["n"], one["to_ts"] - one["from_ts"]) for one in windows] == [
        *((n + 1, 10_000 * n) for n in range(30)),
        (31, 600_000),
    ]
    await rig.batch(ping("bus-1", 610), ping("bus-1", 605), ping("bus-1", 620), ping("bus-2", 610), ping("bus-2", 620))
    assert predictor.rows == (72, 3, 1), "a late ping is answered by itself, and what follows it is another step"


async def test_gaps_of_a_backlog_are_filled_as_they_were_when_each_was_closed(
    make_predictor: Callable[..., Predictor],
) -> None:
    at_once, singly = Rig(make_predictor), Rig(make_predictor)
    items = [ping(who, s + 400 * lap) for lap in range(3) for who in ("bus-1", "bus-2") for s in range(0, 120, 10)]
    await at_once.batch(*items)
    for item in items:
        await singly.batch(item)
    filled = [[(one.key, one.value) for one in gap_fills_of(rig.out)] for rig in (at_once, singly)]
    assert len(filled[0]) > 4
    assert sorted(filled[0]) == sorted(filled[1])


async def test_a_fill_stands_before_its_retraction_also_where_one_batch_holds_both(
    make_predictor: Callable[..., Predictor],
) -> None:
    """Fills are made last of all, in one call of the model, and a retraction in its step: it was published first, and
    a reader that keeps the last record of a gap kept the fill that was withdrawn."""
    rig = Rig(make_predictor)
    records = [rig.record(one) for one in (*steady("bus-1", 20), ping("bus-1", 310), ping("bus-1", 250))]
    for careful in (False, True):
        rig.engine = rig.started()
        answers = await rig.engine.process(records, started_ms=0, fetched_ms=0, careful=careful)
        published = [one for _, one in answers.others]  # not `answers`, which looks at them in order
        assert [loads_gapfill(one.value or b"").status for one in published] == ["provisional", "retracted"]
        assert [loads_gapfill(one.value or b"").revision for one in published] == [0, 1]


def gap_fills_of(answers: Sequence[Outgoing]) -> list[Outgoing]:
    return [answer for answer in answers if answer.topic == SETTINGS.topics.gapfills]
