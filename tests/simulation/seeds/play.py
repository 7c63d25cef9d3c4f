"""Plays a plan from its first ping to the verdict."""

from __future__ import annotations

import asyncio
import logging
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import announcers
from member_oracles import judge_members, open_ends
from oracles import judge
from plans import CUTS, FED_S, FIRST_S, Plan
from promises import list_needless, list_uncounted, watch
from stage import Stage
from virtual_loop import HOST, Stalled
from world import World, running
from world_faults import ACTS

QUIET_S: Final = 240.0  # after all is healed, all must be answered and stored in this time
SHORT_S: Final = 15.0  # where something is wrong already, to see what comes of it
LOOK_S: Final = 0.5
ENDLESS_S: Final = 120.0  # of a processor's time; a world takes a second or two, and a story of one somewhat more


@dataclass
class Outcome:
    """What a world came to."""

    plan: Plan
    findings: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)  # the story, if it was asked for
    events: dict[str, int] = field(default_factory=dict)  # by kind
    digest: int = 0
    lasted_s: float = 0.0  # of virtual time
    requests: int = 0
    faults: set[str] = field(default_factory=set)  # their kinds
    met: set[str] = field(default_factory=set)  # pairs of `meetings.GROUPS`

    @property
    def is_sound(self) -> bool:
        return not self.findings


class Lines(logging.Handler):
    """Puts what the hosts log into the story."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.INFO)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        line = f"log {HOST.get()} {record.levelname} {record.getMessage()}"
        self._world.lines.append(f"{self._world.loop.time():10.4f}  {line}")


class Endless(KeyboardInterrupt):
    """A step of a world does not end. Of this kind, because asyncio and our own code let only these pass."""


@contextmanager
def ended_after(busy_s: float) -> Iterator[None]:
    """Raises `Endless` within what has used so much of a processor's time, wherever it is: the loop's own count of
    steps does not see a step that never gives the turn back."""

    def end(_signal: int, _frame: object) -> None:
        raise Endless

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, busy_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def play(plan: Plan, *, story: bool = False) -> Outcome:
    """Plays a plan, and returns what was found wrong."""
    outcome = Outcome(plan)
    stage = Stage(plan, story=story)
    world = stage.world
    logs = Lines(world)
    if story:
        logging.getLogger().addHandler(logs)
    else:
        logging.disable(logging.CRITICAL)
    began_s = world.loop.time()
    try:
        with running(world), stage.set_up(), ended_after(ENDLESS_S):
            asyncio.set_event_loop(None)
            world.loop.run_until_complete(world.loop.create_task(_act(stage, outcome)))
    except Stalled as error:
        outcome.findings.append(f"stalled: {error}")
    except Endless as error:
        outcome.findings.append(f"endless: {''.join(traceback.format_exception(error))}")
    except Exception as error:
        outcome.findings.append(f"simulation: {''.join(traceback.format_exception(error))}")
    finally:
        logging.disable(logging.NOTSET)
        logging.getLogger().removeHandler(logs)
    outcome.findings += [f"simulation: {''.join(traceback.format_exception(one))}" for one in world.loop.faults[:1]]
    outcome.lines, outcome.events, outcome.digest = world.lines, world.events, world.digest
    outcome.faults, outcome.met = stage.meetings.kinds, stage.meetings.list_met()
    outcome.lasted_s, outcome.requests = world.loop.time() - began_s, world.network.requests
    return outcome


async def _act(stage: Stage, outcome: Outcome) -> None:
    world, plan = stage.world, stage.plan
    for place in stage.places:
        if place.is_wanted:
            stage.start(place)
    stage.members.begin()
    works = (stage.keep(), stage.kafka.tick(), stage.liveness.keep(), watch(stage))
    keepers = [world.loop.create_task(work) for work in works]
    begin_s = world.loop.time()
    for event in plan.events:
        await asyncio.sleep(max(0.0, begin_s + event.at_s - world.loop.time()))
        stage.meetings.note(event)
        ACTS[event.kind](stage, event)
    until_s = max(FIRST_S + FED_S, *(event.at_s for event in plan.events), 0.0)
    await asyncio.sleep(max(0.0, begin_s + until_s - world.loop.time()))
    stage.heal()
    announcers.start_again(stage)
    while not stage.has_pings:  # noqa: ASYNC110 - a topic that is made anew takes its time for that
        await asyncio.sleep(LOOK_S)
    # So that each entity is looked at once more, and evicted ones are rebuilt. After a cut twice: a log may be as long
    # again as the one that was answered, which its consumer notices at the next record.
    for _ in range(2 if plan.kinds & CUTS else 1):
        for number in range(plan.entities):
            await asyncio.sleep(0.3)
            stage.feed(number, "")
        is_broken = bool(stage.broken)  # then nobody waits long enough to call what is open stuck
        until_s = world.loop.time() + (SHORT_S if is_broken else QUIET_S)
        while (open_ := stage.open_ends() or open_ends(stage)) and world.loop.time() < until_s:  # noqa: ASYNC110 - it is the servers' state
            await asyncio.sleep(LOOK_S)
    stage.is_at_rest = True
    if open_ and not is_broken:
        outcome.findings += [f"stuck: {one}" for one in open_]
    outcome.findings += stage.broken
    outcome.findings += stage.unaccounted()
    outcome.findings += [*list_uncounted(stage), *list_needless(stage)]
    outcome.findings += await judge(stage)
    outcome.findings += await judge_members(stage)
    outcome.findings += stage.versions.judge()
    for keeper in keepers:
        keeper.cancel()
