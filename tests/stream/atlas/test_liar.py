"""One more vehicle among Austin's buses, which drives their streets and reports where it never was."""

from __future__ import annotations

from functools import cache, partial
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from model.api import Predictor, answer_questions
from model.atlas import examining, questions
from model.atlas.believing import Belief
from model.atlas.examining import examine
from model.atlas.passages import Passages, draws, entity_ids
from model.atlas.published import publish, publishable
from model.atlas.questions import Questions
from model.atlas.ways import ON_M, ON_S, as_integers
from model.serving.making import forecasts_of
from stream.adapters.recorded import recording
from stream.atlas.building import of_rows
from stream.demo.atlas import DAY
from stream.demo.run import SAMPLE

(LIAR,) = entity_ids(["liar"])
OF_A_TRAIN_MPS = 89.0  # what a track still takes


class Fleet(NamedTuple):
    """What a day of 231 buses shows, and what is asked on a later one."""

    passages: Passages
    asked: Questions


@cache
def buses() -> Fleet:
    history, later = (of_rows(recording(file).in_order()).days for file in (DAY, SAMPLE))
    asked = Questions.total((later.day(day).questions for day in later), questions.MOST)
    return Fleet(Passages.total(history.day(day).passages for day in history), asked)


def lies(kind: str) -> Passages:
    """The passages of a liar that goes up and down the streets of the bus that was seen most, all day, as others do: as
    many as are kept. Wherever it goes on, it was not."""
    honest, rng = buses().passages.rows, np.random.default_rng(7)
    ids, counts = np.unique(honest["id"], return_counts=True)
    streets = honest["bucket"][honest["id"] == ids[counts.argmax()]]
    rows = honest[np.isin(honest["bucket"], streets)]
    rows["ts_ms"] += rng.integers(1, 1_000, len(rows))
    rows["id"], rows["known"], rows["draw"] = LIAR, len(ON_S), draws(np.full(len(rows), LIAR), rows["ts_ms"])
    far = np.array(ON_S) * OF_A_TRAIN_MPS
    away = np.minimum(far, 1_000.0) if kind.startswith("near") else far
    turn = rng.uniform(0, 2 * np.pi, len(rows)) if kind.endswith("everywhere") else np.full(len(rows), np.pi / 2)
    off_m = away[:, None] * np.stack([np.sin(turn), np.cos(turn)], axis=-1)[:, None]
    rows["on"] = -rows["on"] if kind == "back" else as_integers(off_m, ON_M)
    return Passages.of(rows)


def answers(passages: Passages, *, apart: bool = False) -> NDArray[np.float64]:
    """Where passages say that the buses are later, [Q, B, 2], NaN where nobody knows; if the liar's are told `apart`,
    each is of another vehicle."""
    chosen = publishable(passages)
    version, mine = publish(chosen), np.flatnonzero(chosen.rows["id"] == LIAR)
    if apart:
        version.mark[mine] = np.arange(len(mine))
    found = answer_questions(version, buses().asked, chosen.rows["id"])
    return np.where((found.n > 0)[..., None], found.mean_m, np.nan)


def apart_m(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far apart answers are, in the mean of each horizon."""
    return np.asarray(np.nanmean(np.hypot(*np.moveaxis(one - other, -1, 0)), axis=0))


@pytest.mark.parametrize("kind", ["far east", "far everywhere", "near east", "near everywhere", "back"])
def test_one_receiver_that_lies_moves_the_answers_of_others_by_less_than_a_twentieth_of_their_error(kind: str) -> None:
    honest, happened_m = buses().passages, buses().asked.happened_m
    both = Passages.total([honest, lies(kind)])
    before, after = answers(honest), answers(both)
    error_m = apart_m(before, happened_m)
    assert (apart_m(before, after) < 0.05 * error_m).all()
    assert (apart_m(after, happened_m) / error_m).mean() < 1.05
    if not kind.startswith("far"):  # these are cut where nobody went along
        moved_m = apart_m(before, answers(both, apart=True))
        assert (moved_m > 0.05 * error_m).any(), "without the rule of two passages of a vehicle"


@cache
def predictor() -> Predictor:
    return Predictor.load("small")


def belief_beside(liar: Questions, honest: Questions | None = None) -> Belief:
    """How far the passages of the buses are believed if the liar's pings are asked about, too."""
    chosen = publishable(buses().passages)
    version, model = publish(chosen), partial(forecasts_of, predictor())
    asked = Questions.total([buses().asked if honest is None else honest, liar])
    return examine(asked, model, lambda some: answer_questions(version, some, chosen.rows["id"])).belief


def test_one_receiver_that_lies_and_sends_many_pings_does_not_say_alone_what_is_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One of 37 vehicles, which is never in its region, whatever that is: nine tenths of all are to be."""
    rows = np.repeat(buses().asked.rows, 10)
    rows["id"], rows["known"], rows["draw"] = LIAR, 3, draws(np.full(len(rows), LIAR), np.arange(len(rows)))
    rows["went"] = as_integers(np.array([60.0, 300.0, 700.0])[:, None] * OF_A_TRAIN_MPS * np.ones(2), ON_M)
    honest, beside = belief_beside(Questions.none()), belief_beside(Questions.of(rows))
    assert beside.scale.tolist() == honest.scale.tolist()
    assert (np.exp(beside.log_wide - honest.log_wide) < 2.2).all()
    alone = Questions.of(rows)
    alone.rows["near"] = True
    seldom = Questions(buses().asked.rows.copy())
    seldom.rows["near"] = False
    beside = belief_beside(alone, seldom)
    assert (np.exp(beside.log_wide - honest.log_wide) < 2.2).all(), "if it alone has pings near the times, too"
    monkeypatch.setattr(questions, "MOST_OF_ONE", len(rows))
    monkeypatch.setattr(examining, "fair", lambda asked: asked)
    beside = belief_beside(Questions.of(rows))
    assert (np.exp(beside.log_wide - honest.log_wide) > 2.5).any(), "without the rules about one vehicle"
