"""The pages of a process that works in rounds: its metrics for Prometheus, and whether it lives and is ready.

The loop writes into `Rounds` what it does, and from another thread `RoundPages` shows it. Each metric is named after
the command, `pathcast_<name>_...`:

    rounds_total                    rounds since the start, by `outcome`: done or failed
    decisions_total                 decisions since the start, by `what`
    last_round_ok                   1: the last round is done, 0: it has failed; absent before the first
    last_round_duration_seconds     how long the last round took, done or failed; absent before the first
    last_done_timestamp_seconds     Unix time at which the last round was done; before the first, that of the start
    round_interval_seconds          how often a round is to be made; absent for a single one
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from stream.http.probes import ProbePages

OUTCOMES: Final = ("done", "failed")


class Rounds:
    """Holds what a loop says of itself. The loop alone writes. Each value is replaced whole: any thread may read."""

    def __init__(
        self,
        name: str,
        every_s: float | None,
        decisions: tuple[str, ...],
        *,
        hang_s: float,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`hang_s`: the longest time between two signs of life. `decisions`: what may be decided."""
        self.name: Final = name
        self.every_s: Final = every_s
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self.decisions = dict.fromkeys(decisions, 0)
        self.last_ok: bool | None = None
        self.last_took_s: float | None = None
        self.last_done_s = wall()
        self.hindrance: str | None = None
        self._hang_s, self._clock, self._wall = hang_s, clock, wall
        self._begun_s = self._due_s = clock()

    def begin(self) -> None:
        """Notes that a round begins."""
        self._begun_s = self._clock()
        self.alive()

    def alive(self) -> None:
        """Notes a sign of life: the next one is due within the time that counts as hanging."""
        self._due_s = self._clock()

    def wait(self, for_s: float) -> None:
        """Notes that the loop waits for so long."""
        self._due_s = self._clock() + for_s

    def hindered(self, why: str | None) -> None:
        """Notes what the work waits for, and None once it goes on. It is why the process is not ready."""
        self.hindrance = why
        self.alive()

    def done(self, *decided: str) -> None:
        """Notes the end of a round, and what was decided in it."""
        for what in decided:
            self.decisions[what] = self.decisions.get(what, 0) + 1
        self.last_done_s = self._wall()
        self._end("done")

    def failed(self) -> None:
        """Notes that a round has failed."""
        self._end("failed")

    def _end(self, outcome: str) -> None:
        self.outcomes[outcome] += 1
        self.last_ok = outcome == "done"
        self.last_took_s = self._clock() - self._begun_s
        self.alive()

    @property
    def silent_s(self) -> float:
        """Returns how much longer than allowed nothing has been heard of the loop; not above 0 if it is well."""
        return self._clock() - self._due_s - self._hang_s


class RoundPages(ProbePages):
    """Renders the pages of a process that works in rounds."""

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds
        super().__init__()

    def faults(self) -> list[str]:
        """Returns why a new process would do better: the loop hangs, or should have begun a round long ago."""
        silent_s = self._rounds.silent_s
        return [f"nothing was heard of {self._rounds.name} for {silent_s:.0f} s too long"] if silent_s > 0 else []

    def reasons(self) -> list[str]:
        hindrance = self._rounds.hindrance
        return [*self.faults(), *([] if hindrance is None else [hindrance])]

    def collect(self) -> Iterator[Metric]:
        """Yields every metric of the module's table."""
        rounds, begin = self._rounds, f"pathcast_{self._rounds.name}_"
        outcomes = CounterMetricFamily(f"{begin}rounds", "Rounds since the start.", labels=("outcome",))
        for outcome, count in dict(rounds.outcomes).items():
            outcomes.add_metric((outcome,), count)
        decisions = CounterMetricFamily(f"{begin}decisions", "Decisions since the start.", labels=("what",))
        for what, count in dict(rounds.decisions).items():
            decisions.add_metric((what,), count)
        yield from (outcomes, decisions)
        gauges: tuple[tuple[str, str, float | None], ...] = (
            ("last_round_ok", "1: the last round is done, 0: it has failed.", rounds.last_ok),
            ("last_round_duration_seconds", "How long the last round took.", rounds.last_took_s),
            ("last_done_timestamp_seconds", "Unix time of the last round that is done.", rounds.last_done_s),
            ("round_interval_seconds", "How often a round is to be made.", rounds.every_s),
        )
        for name, text, value in gauges:
            if value is not None:
                yield GaugeMetricFamily(f"{begin}{name}", text, value=float(value))
