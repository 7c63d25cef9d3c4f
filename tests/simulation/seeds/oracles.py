"""What must hold of a world: at its end what `pathcast verify` says of its topics and stores, and after each step that
no checkpoint is ahead of the committed offset, and that no committed offset goes back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Final

from members_beside import STRANGER
from networks import make_predictor
from plans import ANSWER_CUTS, CUTS

from stream.store.redis_store import RedisStore
from stream.verify import run as verifying
from stream.verify.report import Example

if TYPE_CHECKING:
    from stage import Stage

PLACE: Final = re.compile(r"at (?:(?P<topic>\S+)/)?(?P<number>\d+)@(?P<offset>\d+)")  # of an answer, in a reason
FILL_PLACE: Final = re.compile(r"no \w+ gap fill .* it is at (?P<number>\d+)/(?P<offset>\d+)$")
ANSWERS: Final = {"different", "duplicated", "unexpected"}


async def judge(stage: Stage) -> list[str]:
    """Returns what `pathcast verify --states` finds wrong, a line for each example."""
    plan, settings = stage.plan, stage.settings
    wanted = verifying.Wanted(once=plan.exactly_once, states=True, allow_retention="retain" in plan.kinds)
    if plan.kinds & ANSWER_CUTS:
        return []  # answers are gone that workers gave, which is for the members beside them to bear
    stage.heal()
    store = RedisStore(settings)
    try:
        report = await verifying._Run(settings, wanted, make_predictor(), store, lambda *_: None).report()
    finally:
        await store.close()
    allowed = {"retention"} if "retain" in plan.kinds else set()
    if plan.kinds & CUTS:
        allowed |= {"log_shortened", "orphaned"}
    otherwise = _list_answered_otherwise(stage, report.examples)
    return [
        f"{one.verdict}: partition {one.partition} offset {one.offset} {one.entity or ''} {one.reason}"
        for one in report.examples
        if one.verdict not in allowed
        and not any(excuses(stage, one) for excuses in EXCUSES)
        and (one.verdict, one.partition, one.offset) not in otherwise
    ]


def _began_anew(stage: Stage, one: Example) -> bool:
    """Returns whether it is of an entity that starts anew by promise: Redis evicted its state, and its partition was
    rebuilt for another one less than a minute ago. It does not know of the gap in which that lies."""
    has_other_state = one.verdict in ("different", "states_different")
    has_no_gap = one.verdict == "lost" and one.reason.startswith("no gap fill")
    return (has_other_state or has_no_gap) and (one.partition, one.entity) in stage.begun_anew


def _list_answered_otherwise(stage: Stage, examples: Sequence[Example]) -> set[tuple[str, int, int | None]]:
    """Returns what is lost and unexpected because an entity began anew: whether a ping raises is up to the state before
    it, so that it has a dead letter instead of its forecast, or the other way round."""
    begun = {(one.partition, one.offset) for one in examples if (one.partition, one.entity) in stage.begun_anew}
    lost = {(one.partition, one.offset) for one in examples if one.verdict == "lost"} & begun
    both = lost & {(one.partition, one.offset) for one in examples if one.verdict == "unexpected"}
    return {(verdict, *place) for place in both for verdict in ("lost", "unexpected")}


def _is_of_former_topic(stage: Stage, one: Example) -> bool:
    """Returns whether what is wrong may be an answer to a record of the topic that was deleted: it has the same offset
    as a record of the new one, and nobody can tell them apart; or to a record that was cut off."""
    before = stage.kafka.former_ends.get(one.partition, 0)
    if one.verdict == "duplicated" and one.offset in stage.kafka.cut_off.get(one.partition, ()):
        return True  # a gone record and the one in its place may be equal, to the byte, and so may their answers
    return one.verdict in ANSWERS and one.offset is not None and one.offset < before


def _answers_what_was_cut_off(stage: Stage, one: Example) -> bool:
    """Returns whether it is an answer that was published without a commit of a record that was cut off. Nobody can tell
    it from a wrong one to the record that lies there now; that one has its own answer, too."""
    place = PLACE.search(one.reason)
    if stage.plan.exactly_once or place is None or one.verdict not in ANSWERS:
        return False
    log = place["topic"] or one.topic, int(place["number"])
    was_cut = one.offset in stage.kafka.cut_off.get(one.partition, ())
    return was_cut and int(place["offset"]) < stage.kafka.ends_at_cut.get(log, inf)


def _fills_what_is_gone(stage: Stage, one: Example) -> bool:
    """Returns whether it is a gap fill that was published without a commit before its record was gone. It names no
    record, and of a log of which nothing was committed `verify` does not know that it was cut."""
    place = FILL_PLACE.search(one.reason)
    if stage.plan.exactly_once or place is None or not stage.plan.kinds & CUTS or one.verdict != "unexpected":
        return False
    log = stage.settings.topics.gapfills, int(place["number"])
    return int(place["offset"]) < stage.kafka.ends_at_cut.get(log, inf)


def _is_of_stranger(stage: Stage, one: Example) -> bool:
    """Returns whether it is a record that somebody else wrote beside the workers."""
    return "stranger" in stage.plan.kinds and (one.entity == STRANGER or (one.partition == -1 and not one.entity))


def _is_of_former_version(stage: Stage, one: Example) -> bool:
    return stage.versions.former.excuse(one)


EXCUSES: Final = (
    _began_anew,
    _is_of_former_topic,
    _answers_what_was_cut_off,
    _fills_what_is_gone,
    _is_of_stranger,
    _is_of_former_version,
)
