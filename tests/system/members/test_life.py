"""The life of a member, proven once for each kind: whatever happens, what it leaves is that of an undisturbed run.

All cases of a kind happen in one run, one after the other, beside a member that stays. After each, everything that was
sent until then must be there.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from dead_members import bury, members_of
from forked_process import ForkedProcess
from member_kinds import KINDS, STANDS_STILL, Kind, run
from pathcast_process import PATIENCE_S

pytestmark = pytest.mark.promise("members beside the workers publish or store each record once, whatever dies")

PAUSE_S = 0.1  # between two slices that are sent
FENCED = "taken over again"  # in the log of a member that was, or whose store or transaction failed


class Scene:
    """Members of one group, one of which stays."""

    def __init__(self, kind: Kind, name: str, folder: Path, stack: ExitStack) -> None:
        self.kind, self._name, self._folder, self._stack = kind, name, folder, stack
        kind.create()
        stack.callback(kind.close)
        self.stays = self.member("stays")
        self._feed_until("a member has joined", lambda: "is ours" in self.stays.log())
        self._living = members_of(kind.kafka, kind.group)

    def member(self, name: str, *, kill_point: str = "", stands_still_before: str = "") -> ForkedProcess:
        given = (self._name, (self.kind.kafka, self.kind.redis_url, self.kind.prefix), stands_still_before)
        return self._stack.enter_context(
            ForkedProcess(self._folder / f"{name}.log", run, *given, kill_point=kill_point)
        )

    def _feed_until(self, what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, f"not in {PATIENCE_S} s: {what}"
            assert self.stays.running(), self.stays.log()
            self.kind.send()
            time.sleep(PAUSE_S)

    def assert_whole(self, case: str) -> None:
        """Waits until everything that was sent is there. What is there too often stays so."""
        deadline = time.monotonic() + PATIENCE_S
        while wrong := self.kind.differences():
            assert time.monotonic() < deadline, f"{case}: {wrong}"
            assert self.stays.running(), self.stays.log()
            time.sleep(PAUSE_S)

    # -- what happens

    def killed(self, point: str) -> None:
        """A member dies at its second way past a point, or without any such point, while it has a partition."""
        victim = self.member(point or "plain", kill_point=f"{point}:2" if point else "")
        if point:
            self._feed_until(f"it is killed at {point}", lambda: not victim.running())
        else:
            self._feed_until("it has a partition", lambda: "is ours" in victim.log())
            victim.send_signal(signal.SIGKILL)
        assert victim.wait() == -signal.SIGKILL, victim.log()
        bury(self.kind.kafka, self.kind.group, but=self._living)
        self.assert_whole(f"killed at {point or 'any place'}")

    def continued(self, before: str) -> None:
        """A member stands still before it writes or takes over, and goes on when the group has gone on without it."""
        zombie = self.member(before, stands_still_before=before)
        self._feed_until(f"it stands still before {before}", lambda: STANDS_STILL in zombie.log())
        bury(self.kind.kafka, self.kind.group, but=self._living)
        self.kind.send()
        self.assert_whole(f"while a member stands still before {before}")
        log_before, zombies_before = len(self.stays.log()), len(zombie.log())
        zombie.send_signal(signal.SIGCONT)
        self._feed_until("it is a member again", lambda: "is ours" in zombie.log()[zombies_before:])
        self.assert_whole(f"continued before {before}")
        assert FENCED not in self.stays.log()[log_before:], f"continued before {before}: it fenced the rightful owner"
        if before == "_take_over_one":
            until_it_owns, *_ = zombie.log()[zombies_before:].partition("is ours")
            assert "is not taken over: generation" in until_it_owns, "it asks the group before it fences anybody"
        self.left_by(zombie, f"continued before {before}, and stopped")

    def left_by(self, member: ForkedProcess, case: str) -> None:
        """A member ends by a signal, and the other one gets its partitions."""
        self.kind.send()
        assert member.stop() == 0, f"{case}: {member.log()}"
        self.kind.send()
        self.assert_whole(case)

    def store_emptied(self) -> None:
        with redis.Redis.from_url(self.kind.redis_url) as client:
            client.flushall()
        self.kind.send()
        self.assert_whole("the store was emptied")

    def joined(self) -> None:
        """Another member joins, and gets partitions that are being read."""
        other = self.member("joins")
        self._feed_until("another member has a partition", lambda: "is ours" in other.log())
        self.assert_whole("another member has joined")
        self.left_by(other, "the other member has left")


@pytest.mark.parametrize("name", ["transactional", "storing"])
def test_what_members_leave_is_that_of_an_undisturbed_run_whatever_happens(
    apache_kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path, name: str
) -> None:
    with ExitStack() as stack:
        scene = Scene(KINDS[name](apache_kafka, redis_url, topic_prefix), name, tmp_path, stack)
        for point in (*scene.kind.points, ""):
            scene.killed(point)
        scene.continued("_after")
        scene.continued("_take_over_one")
        if scene.kind.store_can_be_lost:
            scene.store_emptied()
        scene.joined()
        assert scene.stays.stop() == 0, scene.stays.log()
        scene.assert_whole("all have ended")
