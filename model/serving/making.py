"""Makes a version of the days on which a fleet was seen: what may be published of their passages, and how far they are
believed.

Shapes: Q questions, B = len(believing.HORIZONS_S).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from model.atlas.believing import HORIZONS_S, Belief, Forecast
from model.atlas.days import HALF_LIFE_DAYS, Day, contents, days_with_fleet, factors
from model.atlas.examining import examine
from model.atlas.passages import Ids, Passages
from model.atlas.published import MIN_VEHICLES, MOST, Published, publish, publishable
from model.atlas.questions import Questions
from model.kinematics.geo import F64, displacement_m, to_e7
from model.serving.answers import Forecasts
from model.serving.kv_cache import Slots
from model.serving.passages.asking_compiled import answer_questions

EXAM_DAYS: Final = 2  # the newest on which the fleet was seen, whose questions are asked
MOST_QUESTIONS: Final = 2_048
BATCH: Final = 256  # questions that the model is asked at a time


@dataclass(frozen=True)
class Rules:
    """By what rules a version is made of days."""

    half_life_days: float = HALF_LIFE_DAYS
    min_entities: int = MIN_VEHICLES
    per_cell: int = MOST  # passages at most of a cell and octant


class Made(NamedTuple):
    """A version before it is bytes."""

    passages: Published
    belief: Belief
    contains: dict[str, Any]


class Model(Protocol):
    """States what is asked of a `model.api.Predictor`."""

    def acquire(self, n: int) -> Slots: ...

    def release(self, slots: Slots) -> None: ...

    def rebuild(self, slots: Slots, windows: list[NDArray[Any]]) -> None: ...

    def forecast(self, slots: Slots, horizons_s: tuple[float, ...]) -> Forecasts: ...


def make_version(
    whose: Mapping[int, Day],
    passages_of: Callable[[int], Passages],
    rules: Rules,
    forecasts: Callable[[Questions], Forecast] | None = None,
) -> Made:
    """Returns what may be published of the days that have not faded away. `whose` has each day without its passages,
    which `passages_of` loads, so that not all have to be in memory. How far they are believed is found beside the
    `forecasts` of a model; without one, all are believed alike.
    """
    counting = factors(whose, rules.min_entities, rules.half_life_days)
    made = {"half_life_days": rules.half_life_days, "min_entities": rules.min_entities}
    contains = {**contents(whose[day] for day in counting), **made}
    chosen = Passages.of_days((passages_of(day), factor) for day, factor in counting.items())
    chosen = publishable(chosen, rules.min_entities, rules.per_cell)
    found = publish(chosen, _secret([whose[day].ids for day in counting]))
    asked = Questions.none()
    if forecasts is not None:
        newest = sorted(days_with_fleet(whose, rules.min_entities))[
            -EXAM_DAYS:
        ]  # not those of a few receivers with a wrong clock
        asked = Questions.total((whose[day].questions for day in newest), MOST_QUESTIONS)
    report = examine(asked, forecasts or _nothing, lambda some: answer_questions(found, some, chosen.rows["id"]))
    return Made(found, report.belief, {**contains, "report": report.card})


def forecasts_of(model: Model, questions: Questions) -> Forecast:
    """Returns what a model forecasts at the questions, without an atlas."""
    windows, slots = questions.windows, model.acquire(BATCH)
    mean_m, cov_m2 = np.zeros((len(windows), len(HORIZONS_S), 2)), np.zeros((len(windows), len(HORIZONS_S), 3))
    for begin in range(0, len(windows), BATCH):
        some = windows[begin : begin + BATCH]
        mine, last = slots[: len(some)], questions.last[begin : begin + BATCH]
        model.rebuild(mine, some)
        said = model.forecast(mine, HORIZONS_S)
        mean_m[begin : begin + BATCH] = _apart_m(last, said.lat, said.lon)
        cov_m2[begin : begin + BATCH] = said.cov_m2
    model.release(slots)
    return Forecast(mean_m, cov_m2)


def _apart_m(last: NDArray[Any], lat: F64, lon: F64) -> F64:
    here_lat, here_lon = (np.broadcast_to(last[name][:, None], lat.shape) for name in ("lat_e7", "lon_e7"))
    return displacement_m(here_lat, here_lon, to_e7(lat), to_e7(lon))


def _nothing(questions: Questions) -> Forecast:
    none = len(questions), len(HORIZONS_S)
    return Forecast(np.zeros((*none, 2)), np.zeros((*none, 3)))


def _secret(ids: list[Ids]) -> int:
    """Returns a number that only who knows the whole fleet can find: so nobody can be looked up by a name."""
    everybody = np.unique(np.concatenate([np.empty(0, np.uint64), *ids]))
    return int.from_bytes(blake2b(everybody.tobytes(), digest_size=8).digest(), "little")
