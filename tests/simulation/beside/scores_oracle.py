"""What must hold of scores: those that one undisturbed member would have made of the same forecasts, none given up
before its time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec
from plans import ANSWER_CUTS
from simulated_members import LATENESS_MS, SCORE_RULES, score_settings
from topics_read import read

from stream.kafka.log import Log, Seen, start_of
from stream.kafka.records.record_columns import Records
from stream.services.scores.owned import Decided, Owned
from stream.wire import Drift, Forecast, Record, loads_forecast
from stream.wire.positions import is_possible
from stream.wire.scores import dumps_scored

if TYPE_CHECKING:
    from stage import Stage

NEVER_CUT: Final = 1 << 40


def judge_scores(stage: Stage, number: int) -> list[str]:
    """Returns what is wrong with the scores of a partition."""
    topics, kinds = stage.settings.topics, stage.plan.kinds
    records = read(stage, topics.forecasts, number)
    decided = _undisturbed(stage, number, records)
    wanted = {dumps_scored(one.record) for one in decided}
    published = {record.value or b"" for record in read(stage, topics.scores, number)}
    stage.world.count("scored", len(published))
    found = _given_up_too_soon(records, decided)
    if "answers_cut" in kinds:
        return found  # what was scored by a record that is gone stays, and is not scored anew
    found += [f"scores: {raw.decode()} of partition {number} is missing" for raw in sorted(wanted - published)]
    if not kinds & ANSWER_CUTS:
        more = sorted(published - wanted)
        found += [f"scores: {raw.decode()} of partition {number} is of no forecast" for raw in more]
    return found[:3]


def find_missing(stage: Stage, number: int, end: int) -> list[str]:
    """Returns which scores are decided by the forecasts below an offset, and not published yet."""
    if stage.plan.kinds & ANSWER_CUTS:
        return []
    topics = stage.settings.topics
    published = {record.value or b"" for record in read(stage, topics.scores, number)}
    records = [one for one in read(stage, topics.forecasts, number) if one.offset < end]
    wanted = {dumps_scored(one.record) for one in _undisturbed(stage, number, records)}
    return [f"{raw.decode()} of partition {number} is missing" for raw in sorted(wanted - published)][:3]


def _undisturbed(stage: Stage, number: int, records: list[Record]) -> list[Decided]:
    start = start_of(None, Seen(), Log(0, NEVER_CUT))
    partition = stage.settings.topics.forecasts, number
    owned = Owned.take_over(partition, score_settings(stage.settings), None, start)
    return owned.fold(Records.of(records)) if records else []


def _given_up_too_soon(records: Sequence[Record], decided: Sequence[Decided]) -> list[str]:
    """Returns the scores that were decided although their entity had neither gone on by the span of the rules, nor been
    silent for so long, nor begun anew: reckoned from the forecasts alone."""
    span_ms = SCORE_RULES.longest_s * 1200 + LATENESS_MS
    by_offset: dict[int, list[Decided]] = {}
    for one in decided:
        by_offset.setdefault(one.offset, []).append(one)
    newest: dict[str, int] = {}
    heard: dict[str, int] = {}  # the partition's time when an entity was heard last, or the first that it had then
    found = []
    for record in records:
        forecast = _possible(record)
        if forecast is None:
            continue
        name, ts = forecast.entity_id, forecast.anchor.ts
        before = newest.get(name)
        newest[name] = max(ts, before or ts)
        now = sorted(newest.values())[-2] if len(newest) > 1 else 0
        heard = {one: at or now for one, at in heard.items()}
        for one in by_offset.get(record.offset, ()):
            if isinstance(one.record, Drift):
                continue
            whose, anchor = one.record.entity_id, one.record.anchor_ts
            goes_back = whose == name and before is not None and ts < before - LATENESS_MS
            is_due = newest[whose] >= anchor + span_ms or now - heard.get(whose, now) >= span_ms
            if not (is_due or goes_back):
                found.append(f"too soon: the forecast of {whose} at {anchor} is given up at offset {record.offset}")
        heard[name] = now
    return found


def _possible(record: Record) -> Forecast | None:
    try:
        found = loads_forecast(record.value or b"")
    except (msgspec.DecodeError, RecursionError):
        return None
    return found if is_possible(found) else None
