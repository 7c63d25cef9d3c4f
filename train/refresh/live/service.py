"""Runs one round of a refresh beside a running fleet."""

from __future__ import annotations

import asyncio
import logging
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event
from typing import Final, TypeVar

from aiokafka.errors import KafkaError
from kafka.errors import KafkaError as AdminError

from stream.adapters.sources import parse
from stream.config import failpoints
from stream.config.security import Refused
from stream.http.rounds import Rounds
from stream.registry.decisions import find_deletable
from train.fit.trainer import Interrupted
from train.refresh.live import champion, outcome, pings, rounds
from train.refresh.live.champion import LiveRefresh
from train.refresh.live.rounds import Round, RoundEnd
from train.refresh.live.serving import DECISIONS, build_notes
from train.refresh.run import RefreshWatch, refresh

log: Final = logging.getLogger(__name__)
T = TypeVar("T")

RETRY_S: Final = 10.0
AWAY: Final = (KafkaError, AdminError, OSError, TimeoutError)


class Away(ConnectionError):
    """Kafka, the registry or the archive do not answer. The round goes on when they do."""


@dataclass
class Patience:
    """Waits for servers that are away, notes that a round goes on, and interrupts it when it has to stop."""

    stop: Event = field(default_factory=Event)
    waits: bool = False  # until what is away answers; else Away is raised
    retry_s: float = RETRY_S
    rounds: Rounds = field(default_factory=lambda: build_notes(None))

    def reach(self, what: str, action: Callable[[], T]) -> T:
        """Returns what the action returns. Raises Interrupted, Away, Refused, and what else it raises."""
        while True:
            self.check()
            try:
                found = action()
            except AWAY as error:
                said = str(error) or type(error).__name__
                if not self.waits:
                    raise Away(f"{what} cannot be reached: {said}") from error
                log.warning("%s cannot be reached, and is waited for: %s", what, said)
                self.rounds.hindered(f"{what} cannot be reached")
                self.stop.wait(self.retry_s)
            else:
                self.rounds.hindered(None)
                return found

    def check(self) -> None:
        """Notes a sign of life. Raises Interrupted if it is told to stop."""
        self.rounds.alive()
        if self.stop.is_set():
            raise Interrupted

    def watching(self, watch: RefreshWatch) -> RefreshWatch:
        """Returns the same watch, which also notes signs of life, and stops what it watches."""

        def checking(function: Callable[..., None]) -> Callable[..., None]:
            def call(*given: object) -> None:
                function(*given)
                self.check()

            return call

        return RefreshWatch(*(checking(each) for each in (watch.say, watch.reading, watch.tick, watch.progress)))


def attempt(live: LiveRefresh, patience: Patience, watch: RefreshWatch) -> bool:
    """Makes one of many rounds: what makes it fail is logged, and noted. Returns whether it has not failed. Raises
    Refused."""
    try:
        _run_round(live, patience, watch)
    except Interrupted:
        return True
    except Refused:
        raise
    except Exception as error:  # a service outlives what one round meets
        # As of any command: what a user can cause is a line, such as that no ping is new enough.
        trace = None if isinstance(error, (OSError, ValueError, RuntimeError)) else error
        said = " ".join(str(error).split()) or type(error).__name__
        log.warning("this round failed, and the next one comes in its time: %s", said, exc_info=trace)
        log.debug("where it failed", exc_info=error)
        patience.rounds.failed()
        return False
    return True


def run_once(live: LiveRefresh, patience: Patience, watch: RefreshWatch) -> RoundEnd:
    """Makes one round, or ends the one that was killed. Raises as `complete_round`, and Away, with which the round has
    not ended.
    """
    with rounds.lock_directory(live.directory):
        return _run_round(live, patience, watch)


def _run_round(live: LiveRefresh, patience: Patience, watch: RefreshWatch) -> RoundEnd:
    patience.rounds.begin()
    rounds.delete_old(live.directory)
    ended = complete_round(live, patience, watch)
    rounds.delete_old(live.directory)
    patience.reach("the registry", lambda: delete_old_versions(live))
    patience.rounds.done(*([ended.outcome] if ended.outcome in DECISIONS else []))
    return ended


def complete_round(live: LiveRefresh, patience: Patience, watch: RefreshWatch) -> RoundEnd:
    """Makes one round, or ends the one that was killed.

    Raises Interrupted; Refused; Away; ValueError and RuntimeError, with which the round has failed and ended.
    """
    left = rounds.find_unfinished(live.directory, live.topics.pings)
    own = None if left is None else left.challenger
    record = patience.reach("Kafka or the registry", lambda: asyncio.run(champion.read_serving(live, own)))
    version = patience.reach("the registry", lambda: champion.publish_init(live)) if record is None else record.version
    round = _begin_round(live, left, version)
    try:
        ended = _make_challenger(live, round, patience, patience.watching(watch))
    except (Interrupted, Away, Refused):
        raise
    except Exception as error:
        round.end(RoundEnd("failed", str(error) or type(error).__name__))
        raise
    failpoints.reach("after_decision")
    round.end(ended)
    failpoints.reach("after_round")
    log.info("%s", ended.line)
    return ended


def _begin_round(live: LiveRefresh, left: Round | None, version: str) -> Round:
    """Returns the round that was killed, if it still is about what serves, or a new one."""
    if left is not None:
        if version in (left.started.champion, left.challenger):
            log.info("going on with the round %s", left.folder.name)
            return left
        left.end(RoundEnd("outrun", f"{version} serves meanwhile, and it began with {left.started.champion}"))
        log.info("the round %s is given up: %s serves meanwhile", left.folder.name, version)
    made = rounds.begin_round(live.directory, live.topics.pings, version, time.time_ns() // 1_000_000)
    log.info("the round %s begins: %s serves", made.folder.name, version)
    return made


def _make_challenger(live: LiveRefresh, round: Round, patience: Patience, watch: RefreshWatch) -> RoundEnd:
    if not round.result.exists():
        patience.reach("the registry", lambda: champion.fetch_weights(live, round.started.champion, round.champion))
        if not round.pings.exists():
            patience.reach("Kafka or the archive", lambda: _read_pings(live, round, watch))
            failpoints.reach("after_pings")
        options = replace(live.options, out=round.result, champion=str(round.champion), cache=round.cache)
        refresh([parse(round.pings)], options, lambda steps: build_command(live, round, steps), watch)
        failpoints.reach("after_result")
    return patience.reach("Kafka or the registry", lambda: asyncio.run(outcome.decide_round(live, round)))


def _read_pings(live: LiveRefresh, round: Round, watch: RefreshWatch) -> None:
    topic, since_ms = live.topics.pings, round.started.started_ms - live.since_ms
    where = pings.PingTopic(topic, live.bootstrap, live.security, live.map)
    count = pings.write_pings(
        where, round.pings, since_ms, archive=live.archive, progress=partial(watch.reading, topic)
    )
    log.info("%s: %d pings", topic, count)


def build_command(live: LiveRefresh, round: Round, steps: int) -> str:
    """Returns the command that makes the same weights of the same pings, of which the manifest has a hash."""
    options = live.options
    how = ["--init", round.started.champion, "--steps", str(steps), "--seed", str(options.seed)]
    return shlex.join(
        ["pathcast", "train", "refresh", "--data", round.pings.name, *how, "--places", str(options.places)]
    )


def delete_old_versions(live: LiveRefresh) -> None:
    """Deletes old versions that `pathcast train refresh` has published, and of which nothing recent says anything."""
    mine = [one for one in live.registry.manifests("weights") if champion.is_refreshed(one)]
    if len(mine) <= live.keep.newest:
        return
    used = asyncio.run(_versions_in_use(live))
    for one in find_deletable(mine, live.registry.decisions(), used, time.time_ns() // 1_000_000, live.keep):
        live.registry.delete("weights", one.version, keep=used)
        log.info("deleted weights %s, which nothing has named for %g days", one.version, live.keep.days)


async def _versions_in_use(live: LiveRefresh) -> set[str]:
    async with live.decider() as decider:
        records = [decider.serving, *decider.canaries]
    return {one.version for one in records if one is not None}
