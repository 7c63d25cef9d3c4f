"""Measures what scoring costs (`pathcast scores run`): one partition's forecasts, without a broker."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from stream.bench.harness.report import Report, Table
from stream.bench.harness.stats import middle, plus_minus
from stream.bench.harness.workload import Workload
from stream.commands.replay import engine_of
from stream.config.settings import UNLIMITED, Settings
from stream.kafka.records.record_columns import Records
from stream.services.scores.scoring.drift import Watches
from stream.services.scores.scoring.scorer import Scorer
from stream.services.scores.scoring.waiting import DEFAULT_RULES
from stream.wire import Record, dumps_scored

BATCH: Final = 4_096


def measured(entities: int, rounds: int, *, runs: int, data: Path | None, show: Callable[[str], None]) -> Report:
    """Measures for `pathcast bench scores`, and returns the report."""
    log = _forecasts(Workload(entities, data), rounds)
    show(f"{len(log):,} forecasts of {entities:,} entities, {runs} runs")
    speeds, scored = [], 0
    for _ in range(runs):
        began_s = time.process_time()
        scored = _score(log, Scorer(DEFAULT_RULES), Watches("scores", 0))
        speeds.append(len(log) / (time.process_time() - began_s))
    show("once more, for its memory")
    scorer = Scorer(DEFAULT_RULES)
    tracemalloc.start()
    _score(log, scorer, Watches("scores", 0))
    held, waiting = tracemalloc.get_traced_memory()[0], scorer.standing().forecasts
    tracemalloc.stop()
    columns = ("forecasts", "scores", "forecasts/s of CPU", "±", "wait at the end", "bytes for each")
    row = (len(log), scored, middle(speeds), plus_minus(speeds), waiting, held / max(1, waiting))
    numbers: dict[str, Any] = {"entities": entities, "rounds": rounds, "per_cpu_s": speeds, "held_bytes": held}
    note = f"folding, scoring, watching for drift and writing; medians of {runs} runs"
    return Report("scores", [Table("scoring one partition, without a broker", columns, [row])], numbers, [note])


def _score(log: Sequence[bytes], scorer: Scorer, watches: Watches) -> int:
    scored = 0
    for offset, raw in enumerate(log):
        for score in scorer.fold(offset, raw):
            scored += 1
            dumps_scored(score)
            watches.add(score, offset)
    return scored


def _forecasts(workload: Workload, rounds: int) -> list[bytes]:
    """Returns what a worker publishes for these pings."""
    settings = Settings(max_stored_entities=UNLIMITED)
    engine, topics = engine_of(settings), settings.topics
    sent = list(workload.rounds(rounds))
    found: list[bytes] = []

    async def answer() -> None:
        for first in range(0, len(sent), BATCH):
            part = enumerate(sent[first : first + BATCH], first)
            rows = [Record(topics.pings, 0, n, one.ts_ms, one.entity_id.encode(), one.value) for n, one in part]
            answers = await engine.process(Records.of(rows), started_ms=0.0, fetched_ms=0.0)
            found.extend(one.value or b"" for one in answers if one.topic == topics.forecasts)

    asyncio.run(answer())
    return found
