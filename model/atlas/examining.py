"""Finds out how far a version's passages are to be believed: it answers the fleet's own newest questions, each without
the passages of its own vehicle, beside the forecasts of a model, and fits a `Belief` to what then happened.

Shapes: Q questions, B = len(believing.HORIZONS_S).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.atlas.asking import Estimate
from model.atlas.believing import HORIZONS_S, UNFITTED, Belief, Forecast, combine, fit, holds
from model.atlas.passages import firsts, ranks
from model.atlas.questions import Questions
from model.kinematics.geo import F64

LEAST: Final = 100  # questions: fewer tell nothing
LEAST_NEAR: Final = 30  # of a horizon, that say how wide regions have to be,
LEAST_VEHICLES: Final = 10  # of so many vehicles: a tenth may lie outside, and so one that lies
NEWEST_MS: Final = 86_400_000  # before the last question: older ones are not asked
Forecasts = Callable[[Questions], Forecast]  # of a model, at HORIZONS_S
Estimates = Callable[[Questions], Estimate]  # of passages, at HORIZONS_S, without those of the question's own vehicle


class Report(NamedTuple):
    """The result of an examination."""

    belief: Belief
    card: dict[str, Any]  # for people: by horizon, how much nearer forecasts came, and how much regions hold


def examine(questions: Questions, forecasts: Forecasts, estimates: Estimates) -> Report:
    """Returns how far passages are to be believed that give these estimates beside these forecasts."""
    questions = fair(newest(questions))
    if len(questions) < LEAST:
        return Report(UNFITTED, {"questions": len(questions)})
    model, found, happened_m = forecasts(questions), estimates(questions), questions.happened_m
    surely = choose_sure(questions)
    belief = fit(model, found, happened_m, surely)
    dt_s = np.tile(HORIZONS_S, (len(questions), 1))
    moved = combine(model, found, dt_s, belief)
    return Report(belief, {"questions": len(questions), "horizons": _card(model, moved, happened_m, surely)})


def newest(questions: Questions) -> Questions:
    """Returns the questions of the last day before the last of them."""
    if not len(questions):
        return questions
    ts_ms = questions.last["ts_ms"]
    return Questions(questions.rows[ts_ms > ts_ms.max() - NEWEST_MS])


def fair(questions: Questions) -> Questions:
    """Returns of each vehicle at most as many questions as vehicles have in the mean: what one says that sends many
    pings, or lies, is not to widen the regions of all."""
    vehicles = max(len(np.unique(questions.rows["id"])), 1)
    return Questions.of(questions.rows, len(questions), -(-len(questions) // vehicles))


def choose_sure(questions: Questions) -> NDArray[np.bool_]:
    """Returns of which questions it is known [Q, B] by a ping near the time where the thing was: a line between two
    pings is smoother than a way. No vehicle counts more often than vehicles do in the mean. Where such questions are
    not LEAST_NEAR, of LEAST_VEHICLES, all that are known count.
    """
    out: NDArray[np.bool_] = np.isfinite(questions.happened_m[..., 0])
    near, ids = out & questions.rows["near"], questions.rows["id"]
    order = np.argsort(ids, kind="stable")
    for column in range(len(HORIZONS_S)):
        rows = order[near[order, column]]
        begins = firsts(ids[rows])
        vehicles = int(begins.sum())
        chosen = rows[ranks(begins) < -(-len(rows) // max(vehicles, 1))]
        if vehicles >= LEAST_VEHICLES and len(chosen) >= LEAST_NEAR:
            out[:, column] = False
            out[chosen, column] = True
    return out


def _card(model: Forecast, moved: Forecast, happened_m: F64, surely: NDArray[np.bool_]) -> list[dict[str, float]]:
    off, of_model = (np.hypot(*np.moveaxis(one.mean_m - happened_m, -1, 0)) for one in (moved, model))
    held = np.where(surely, holds(moved, happened_m), np.nan)
    return [
        {
            "after_s": horizon_s,
            "mean_m": round(float(np.nanmean(off[:, column])), 1),
            "of_model": round(float(np.nanmean(off[:, column]) / np.nanmean(of_model[:, column])), 3),
            "held": round(float(np.nanmean(held[:, column])), 3),
        }
        for column, horizon_s in enumerate(HORIZONS_S)
        if np.isfinite(off[:, column]).any()
    ]
