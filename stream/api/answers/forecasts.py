"""Forecasts of stored states, as the worker that stored them would give them. On one thread; no clock.

A state may lack the newest fixes of its entity's window, which are stored beside it: they are folded in first. A state
that the network cannot read is rebuilt from the window, as a worker does it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.api import Atlas, Guide, Predictor, StateError, approaches_of
from stream.api.answers.rendering import RenderedForecast, render
from stream.engine.entities.stored_entity import Stored
from stream.engine.entities.table import windows
from stream.wire import Cache, Window

Slots = NDArray[np.int64]


class StateQuestion(NamedTuple):
    """A question about one stored state: horizons in seconds, one at least."""

    stored: Stored
    horizons_s: tuple[float, ...]
    atlas: Atlas | None = None
    is_guided: bool = False  # an atlas is asked, although there may be none


class StateForecast(NamedTuple):
    window: Window
    cache: Cache
    forecast: RenderedForecast
    atlas_pings: int


def forecast_states(network: Predictor, questions: Sequence[StateQuestion]) -> list[StateForecast]:
    """Answers all questions, in their order."""
    with restore(network, [one.stored for one in questions]) as (slots, is_rebuilt):
        forecasts: dict[int, StateForecast] = {}
        for guided in (False, True):
            rows = [row for row, one in enumerate(questions) if one.is_guided is guided]
            if rows:
                some = _forecasts(
                    network, slots[rows], [questions[row] for row in rows], [is_rebuilt[row] for row in rows]
                )
                forecasts.update(zip(rows, some, strict=True))
    return [forecasts[row] for row in range(len(questions))]


def _forecasts(
    network: Predictor, slots: Slots, questions: Sequence[StateQuestion], is_rebuilt: Sequence[bool]
) -> list[StateForecast]:
    """Forecasts all at once. Those with fewer horizons than others get their last one again, and drop it."""
    last = network.last(slots)
    most = max(len(one.horizons_s) for one in questions)
    table = np.array(
        [one.horizons_s + one.horizons_s[-1:] * (most - len(one.horizons_s)) for one in questions], np.float64
    )
    seen = [windows(one.stored.track.window) for one in questions]
    answers = network.forecast(slots, table, _guide(questions, seen))
    forecasts = []
    for row, (one, fixes) in enumerate(zip(questions, seen, strict=True)):
        window = Window(len(fixes), int(fixes["ts_ms"][0]), int(fixes["ts_ms"][-1]))
        forecast = render(answers, row, last[row], one.horizons_s, window.n)
        forecasts.append(
            StateForecast(window, "rebuilt" if is_rebuilt[row] else "hit", forecast, int(answers.atlas_pings[row]))
        )
    return forecasts


def _guide(questions: Sequence[StateQuestion], seen: Sequence[NDArray[Any]]) -> Guide | None:
    if not questions[0].is_guided:
        return None
    atlases = list({id(one.atlas): one.atlas for one in questions if one.atlas is not None}.values())
    place = {id(one): at for at, one in enumerate(atlases)}
    which = np.array([place.get(id(one.atlas), -1) for one in questions], np.int64)
    return Guide(atlases, which, approaches_of(seen))


@contextmanager
def restore(network: Predictor, stored: Sequence[Stored]) -> Iterator[tuple[Slots, list[bool]]]:
    """Yields slots with these states, up to the last fix of each window, and which of them were rebuilt."""
    slots = network.acquire(len(stored))
    try:
        is_rebuilt = _load(network, slots, stored)
        behind = np.array([one.behind for one in stored], np.int64)
        late = np.flatnonzero((behind > 0) & ~is_rebuilt)
        if len(late):
            tails = np.concatenate([windows(stored[row].track.window)[-behind[row] :] for row in late.tolist()])
            network.catch_up(slots[late], tails, behind[late])
        rebuilt = np.flatnonzero(is_rebuilt)
        if len(rebuilt):
            network.rebuild(slots[rebuilt], [_history(network, stored[row]) for row in rebuilt.tolist()])
        yield slots, is_rebuilt.tolist()
    finally:
        network.release(slots)


def _load(network: Predictor, slots: Slots, stored: Sequence[Stored]) -> NDArray[np.bool_]:
    """Loads the states. Returns which of them cannot be used."""
    refused = np.zeros(len(stored), np.bool_)
    try:
        network.loads(slots, [one.state for one in stored])
    except StateError:  # all or none: find out which
        for row, one in enumerate(stored):
            try:
                network.loads(slots[row : row + 1], [one.state])
            except StateError:
                refused[row] = True
    for row, one in enumerate(stored):
        if not refused[row]:
            fixes = windows(one.track.window)
            stands = one.behind < len(fixes)
            stands = stands and network.last(slots[row : row + 1])["ts_ms"][0] == fixes["ts_ms"][-1 - one.behind]
            refused[row] = not stands
    return refused


def _history(network: Predictor, stored: Stored) -> NDArray[Any]:
    """Returns the window as far as this network remembers: other weights may have stored a longer one."""
    return windows(stored.track.window)[-network.history :]
