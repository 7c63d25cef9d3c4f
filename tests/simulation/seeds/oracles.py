"""What must hold of a world: at its end what `pathcast verify` says of its topics and stores, and after each step that
no checkpoint is ahead of the committed offset, and that no committed offset goes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from members_beside import STRANGER
from plans import ANSWER_CUTS, CUTS
from simulated_worker import make_predictor

from stream.store.redis_store import RedisStore
from stream.verify import run as verifying
from stream.verify.report import Example

if TYPE_CHECKING:
    from stage import Stage

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
    if stage.began_anew:
        allowed |= {"different", "states_different"}
    return [
        f"{one.verdict}: partition {one.partition} offset {one.offset} {one.entity or ''} {one.reason}"
        for one in report.examples
        if one.verdict not in allowed
        and not _is_of_former_topic(stage, one)
        and not _is_of_stranger(stage, one)
        and not stage.former_versions.excuse(one)
    ]


def _is_of_former_topic(stage: Stage, one: Example) -> bool:
    """Returns whether what is wrong may be an answer to a record of the topic that was deleted: it has the same offset
    as a record of the new one, and nobody can tell them apart; or to a record that was cut off."""
    before = stage.kafka.former_ends.get(one.partition, 0)
    if one.verdict == "duplicated" and one.offset in stage.kafka.cut_off.get(one.partition, ()):
        return True  # a gone record and the one in its place may be equal, to the byte, and so may their answers
    return one.verdict in ANSWERS and one.offset is not None and one.offset < before


def _is_of_stranger(stage: Stage, one: Example) -> bool:
    """Returns whether it is a record that somebody else wrote beside the workers."""
    return "stranger" in stage.plan.kinds and (one.entity == STRANGER or (one.partition == -1 and not one.entity))
