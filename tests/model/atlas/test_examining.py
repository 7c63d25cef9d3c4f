"""Of which questions it is known where the thing was: they say how wide regions have to be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.atlas import examining
from model.atlas.examining import choose_sure
from model.atlas.questions import QUESTION, Questions


def questions(near: dict[int, int], between: dict[int, int], known: int = 3) -> Questions:
    """So many questions of each vehicle, with a ping near each time, and without one."""
    ids = [one for some in (near, between) for one, count in some.items() for _ in range(count)]
    rows = np.zeros(len(ids), QUESTION)
    rows["id"], rows["known"] = ids, known
    rows["near"][: sum(near.values())] = True
    return Questions(rows[np.random.default_rng(3).permutation(len(rows))])


def of_vehicle(asked: Questions, surely: NDArray[np.bool_], vehicle: int) -> int:
    return int(surely[asked.rows["id"] == vehicle, 0].sum())


def test_where_enough_vehicles_ping_near_the_time_no_line_between_pings_counts() -> None:
    fleet = dict.fromkeys(range(12), 5)
    asked = questions(fleet, dict.fromkeys(range(40), 9))
    assert (choose_sure(asked) == asked.rows["near"]).all()
    unknown = questions(fleet, {}, known=1)
    assert choose_sure(unknown).any(axis=0).tolist() == [True, False, False], "what nobody knows never counts"


def test_few_vehicles_that_ping_often_do_not_say_alone_how_wide_regions_are() -> None:
    between = dict.fromkeys(range(40), 9)
    for near in ({99: 200}, dict.fromkeys(range(examining.LEAST_VEHICLES - 1), 40), dict.fromkeys(range(12), 2)):
        assert choose_sure(questions(near, between)).all()


def test_one_vehicle_that_pings_often_counts_as_often_as_vehicles_do() -> None:
    asked = questions(dict.fromkeys(range(12), 4) | {99: 100}, dict.fromkeys(range(40), 9))
    surely = choose_sure(asked)
    assert of_vehicle(asked, surely, 99) == 12, "148 of 13 vehicles"
    assert [of_vehicle(asked, surely, one) for one in range(12)] == [4] * 12
    assert not surely[~asked.rows["near"]].any()
