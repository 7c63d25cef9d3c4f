"""What a line feeds, and when its subscriber gives up."""

from __future__ import annotations

from typing import cast

from stream.bench.harness.launch import Process
from stream.bench.harness.line import Line
from stream.bench.harness.servers import Servers
from stream.bench.harness.workload import Workload
from stream.bench.workers import latency
from stream.wire import Topics


def line(entities: int, fed: int) -> Line:
    """A line that only says what is to be fed: neither its servers nor its worker run."""
    options = latency.LatencyOptions(entities=entities, warm_rounds=2)
    return Line(options, Servers("", "", "", None), Topics.of("t"), cast(Process, None), fed)


def test_a_feed_has_the_pings_of_its_seconds_and_goes_on_where_the_one_before_ended() -> None:
    """With 1,000 entities, 8 s at 10 pings/s were 1,000 pings once: a whole round, which takes 100 s."""
    ours = line(1_000, fed=2_000)
    feeds = [ours.feed(10.0, 8.0), ours.feed(100.0, 0.5), ours.feed(3_000.0, 1.0), ours.feed(1.0, 0.1)]
    assert [(feed.skip, feed.count) for feed in feeds] == [(2_000, 80), (2_080, 50), (2_130, 3_000), (5_130, 1)]
    assert [ping for feed in feeds for ping in feed.pings()] == list(Workload(1_000).pings(5_131))[2_000:]
