"""Finds the gaps of a file and what lies in them. It writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream.adapters.recorded import Recording
from stream.commands.files import times
from stream.commands.files.answering import Counts, answers, bad
from stream.commands.files.plan import Fills, Plan, Rejects
from stream.commands.files.showing import Steps
from stream.commands.files.survey import Survey, batches, survey
from stream.config.settings import UNLIMITED, Settings
from stream.wire import loads_gapfill


@dataclass(frozen=True)
class Filled:
    """What a file is to be filled with."""

    survey: Survey
    plan: Plan
    rejects: Rejects
    counts: Counts
    gaps: int


def filled(found: Recording, form: Any, weights: str, atlas: Path | None, step_ms: int, steps: Steps) -> Filled:
    """Reads a file twice. `form` is a time as the file has it; `step_ms` is between filled rows, 0 for each track's own
    cadence.

    Raises ValueError if no row is a ping, and the errors of reading the file, the weights or the atlas.
    """
    with steps.step("reading") as progress:
        seen = survey(found.rows(), progress)
    settings = Settings(weights=weights, max_stored_entities=UNLIMITED)  # there is no store
    fills, rejects, counts = Fills(), Rejects(), Counts()
    spacing = {"step_ms": step_ms, "unit_ms": times.unit_ms(form, found.columns)}
    rows = batches(found.rows, seen)
    with steps.step("filling", len(seen)) as progress:
        for row, answer in answers(rows, settings, counts, progress, forecasts=False, atlas=atlas, **spacing):
            if answer.topic == settings.topics.gapfills:
                fills.add(loads_gapfill(answer.value or b""))
            elif answer.topic == settings.topics.dead_letters:
                rejects.add(bad(row, answer))
    raise_if_none(found, counts, rejects)
    return Filled(seen, Plan.of(seen, fills.points, rejects.rows), rejects, counts, fills.gaps)


def raise_if_none(found: Recording, counts: Counts, rejects: Rejects) -> None:
    """Raises ValueError if a file has rows, and none is a ping."""
    if rejects.first and not counts.pings:
        one = rejects.first[0]
        raise found.without_pings(counts.rows, one.code, one.message)
