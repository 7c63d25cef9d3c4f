"""What must hold of a world: at its end what `pathcast verify` says of its topics and stores, and after each step that
no checkpoint is ahead of the committed offset, and that no committed offset goes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from simulated_worker import make_predictor

from stream.store.redis_store import RedisStore
from stream.verify import run as verifying
from stream.verify.report import VERDICTS, Report

if TYPE_CHECKING:
    from stage import Stage

# Faults that leave a trace which is right: the log itself has lost something.
CUTS: Final = {"elect_unclean", "topic_anew"}


async def judge(stage: Stage) -> list[str]:
    """Returns what `pathcast verify --states` finds wrong, a line for each example."""
    plan, settings = stage.plan, stage.settings
    wanted = verifying.Wanted(once=plan.exactly_once, states=True, allow_retention="retain" in plan.kinds)
    stage.heal()
    store = RedisStore(settings)
    try:
        report = await verifying._Run(settings, wanted, make_predictor(), store, lambda *_: None).report()
    finally:
        await store.close()
    allowed = {"retention"} if "retain" in plan.kinds else set()
    if plan.kinds & CUTS:
        allowed |= {"log_shortened", "orphaned"}
    return [
        f"{one.verdict}: partition {one.partition} offset {one.offset} {one.entity or ''} {one.reason}"
        for one in report.examples
        if one.verdict not in allowed
    ]


def count_judged(report: Report) -> Mapping[str, int]:
    return {verdict: getattr(report.total, verdict) for verdict in VERDICTS}
