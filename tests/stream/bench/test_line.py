"""What a line feeds, and when its subscriber gives up."""

from __future__ import annotations

from typing import cast

import pytest

from stream.bench.harness.launch import Process
from stream.bench.harness.line import Line
from stream.bench.harness.programs.subscriber import Listen
from stream.bench.harness.servers import Servers
from stream.bench.harness.workload import Workload
from stream.bench.workers import latency
from stream.wire import Topics


def line(entities: int, fed: int) -> Line:
    """A line that only says what is to be fed: neither its servers nor its worker run."""
    options = latency.Options(entities=entities, warm_rounds=2)
    return Line(options, Servers("", "", "", None), Topics.of("t"), cast(Process, None), fed)


def test_a_feed_has_the_pings_of_its_seconds_and_goes_on_where_the_one_before_ended() -> None:
    """With 1,000 entities, 8 s at 10 pings/s were 1,000 pings once: a whole round, which takes 100 s."""
    ours = line(1_000, fed=2_000)
    feeds = [ours.feed(10.0, 8.0), ours.feed(100.0, 0.5), ours.feed(3_000.0, 1.0), ours.feed(1.0, 0.1)]
    assert [(feed.skip, feed.count) for feed in feeds] == [(2_000, 80), (2_080, 50), (2_130, 3_000), (5_130, 1)]
    assert [ping for feed in feeds for ping in feed.pings()] == list(Workload(1_000).pings(5_131))[2_000:]


@pytest.mark.parametrize(
    ("now_s", "first_s", "last_s", "over"),
    [
        (29.0, None, 0.0, False),  # before the first answer only patience counts: the feeder may not have begun
        (30.0, None, 0.0, True),
        (44.0, 5.0, 43.0, False),
        (45.0, 5.0, 44.0, True),
        (44.0, 5.0, 14.0, True),
    ],
)
def test_a_subscriber_gives_up_when_nothing_comes_or_the_whole_takes_too_long(
    now_s: float, first_s: float | None, last_s: float, over: bool
) -> None:
    how = Listen(feed=line(1, 0).feed(1.0, 1.0), topic="t", output="", patience_s=30.0, longest_s=40.0)
    assert how.over(now_s, first_s, last_s) == over


def test_a_subscriber_without_a_bound_waits_while_answers_come() -> None:
    how = Listen(feed=line(1, 0).feed(1.0, 1.0), topic="t", output="", patience_s=30.0)
    assert not how.over(10_000.0, 5.0, 9_971.0)
