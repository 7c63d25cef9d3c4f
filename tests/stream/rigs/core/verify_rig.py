"""A history, and what `pathcast verify` says of it, without a broker. Tests import this; it tests nothing itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from engine_rig import SETTINGS, T0, A, Rig
from msgspec.structs import replace

from model.api import Predictor
from stream.engine.engine import Engine
from stream.store.base import Store
from stream.verify.atlases import NamedAtlases, choice_of_replay
from stream.verify.compare import Tolerance
from stream.verify.judging.doubts import Place
from stream.verify.judging.judge import Judge, JudgingRules
from stream.verify.published import Published, Span
from stream.verify.replay import Replay
from stream.verify.report import VERDICTS, Report
from stream.verify.stored_states import Replayed, States
from stream.verify.versions import Announced
from stream.verify.weights import AnnouncedWeights, Loaded
from stream.wire import Forecast, GapFill, Outgoing, Record, dumps, loads_forecast, loads_gapfill


async def verdict(
    rig: Rig,
    published: Sequence[Outgoing] | None = None,
    *,
    committed: int | None = None,
    begin: int = 0,
    start: int = 0,
    cut: int | None = None,
    store: Store | None = None,
    make: Callable[[], Predictor] | None = None,
    once: bool = False,
    to_the_bit: bool = True,
    tolerance: Tolerance | None = None,
    piece: int = 50,
    clock_ms: float = T0 + 10_000_000,
    announced: Announced | None = None,
    folder: Path | None = None,
    networks: Sequence[Predictor] = (),
    weights: AnnouncedWeights | None = None,
) -> Report:
    """The report on the rig's log, its answers (or `published` instead of them) and its store, if it is given; on the
    atlases that they asked, if their files lie in `folder`; and on the weights, if these `networks` are of them."""
    predictor, replayed = (make or rig.make)(), Replayed()
    engine = Engine(predictor, replayed, SETTINGS, clock_ms=lambda: 0.0, max_resident=1 << 30)
    end = len(rig.log)
    span = Span(begin, max(begin, start), end if committed is None else committed, end, cut)
    report = Report("exactly_once" if once else "at_least_once")
    report.tally(A[1])
    loaded = Loaded([predictor, *networks])
    models = loaded.index.keys()
    books = Published(SETTINGS.topics, {A[1]: span}, models, report)
    records = {(r.topic, r.partition, r.offset): r for r in as_records(rig.out if published is None else published)}
    for record in records.values():
        books.add(record)
    atlases = NamedAtlases()
    if folder is not None:
        atlases.load(folder, books.named, SETTINGS.topics.models, report)
    rules = JudgingRules(
        *(SETTINGS.topics, tolerance or Tolerance(), predictor.history),
        once=once,
        to_the_bit=to_the_bit,
        announced=announced,
        versions=atlases.versions,
        models=models,
        weights=weights,
    )
    judge = Judge(A[1], books.books[A[1]], rules, report)
    states = None
    if store is not None:
        states = States(A, store, engine.predictors, judge, rules, report, ttl_ms=10_000_000, clock_ms=lambda: clock_ms)
        states.plan((await store.peek(A)).next_offset, span.committed)

    async def fetch(places: Set[Place]) -> Mapping[Place, Record]:
        return {place: records[place] for place in places}

    asked = choice_of_replay(books.books[A[1]], atlases, loaded.networks)
    replay = Replay(engine, replayed, judge, states, fetch, asked)
    for at in range(begin, end, piece):
        await replay.feed(rig.log[at : at + piece])
    await replay.end()

    async def anew(stop: int) -> AsyncIterator[Sequence[Record]]:
        engine.drop(A)
        for at in range(begin, stop, piece):
            yield rig.log[at : min(at + piece, stop)]

    await replay.again(anew)
    return report


async def sound_verdict(rig: Rig, published: Sequence[Outgoing] | None = None, **more: Any) -> Report:
    """The same report, which finds nothing wrong."""
    report = await verdict(rig, published, **more)
    assert report.ok, report.examples
    assert wrong(report) == {}, report.examples
    return report


def wrong(report: Report) -> dict[str, int]:
    """How many findings of each kind there are."""
    return {name: count for name in VERDICTS if (count := getattr(report.total, name))}


def as_records(answers: Sequence[Outgoing]) -> list[Record]:
    """Answers as they lie in the output topics, one partition each."""
    lengths: dict[str, int] = {}
    records = []
    for answer in answers:
        offset = lengths[answer.topic] = lengths.get(answer.topic, -1) + 1
        records.append(Record(answer.topic, 0, offset, T0, answer.key, answer.value, answer.headers))
    return records


def with_forecast(answer: Outgoing, change: Callable[[Forecast], Forecast]) -> Outgoing:
    return answer._replace(value=dumps(change(loads_forecast(answer.value or b""))))


def with_fill(answer: Outgoing, change: Callable[[GapFill], GapFill]) -> Outgoing:
    return answer._replace(value=dumps(change(loads_gapfill(answer.value or b""))))


def moved_north(metres: float) -> Callable[[Forecast], Forecast]:
    """The last horizon's position, `metres` further north."""

    def change(forecast: Forecast) -> Forecast:
        *others, last = forecast.horizons
        return replace(forecast, horizons=(*others, replace(last, lat=last.lat + metres / 111_195)))

    return change
