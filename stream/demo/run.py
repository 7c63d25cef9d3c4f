"""Runs the demo: servers, a worker and a map as `pathcast up` runs them, and a recording that is replayed into them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Protocol

from kafka import KafkaConsumer, TopicPartition

from stream.adapters.files import RecordedRow
from stream.adapters.recorded import Recording, recording
from stream.commands.feeder import pace, publisher, replay
from stream.config.http_access import Address
from stream.config.security import PLAIN_KAFKA, PLAIN_REDIS
from stream.demo import atlas
from stream.demo.board import Board
from stream.demo.hidden_gaps import judge_fills
from stream.demo.parts import MAP_READY_S, READY_S, PartFailed, RunningPart
from stream.kafka import admin
from stream.up import embedded
from stream.up.parts import environment, map_part, worker_part
from stream.up.ports import MAP_PORT
from stream.versions.files import path_of
from stream.wire import Topics

SAMPLE = Path(__file__).parent / "sample" / "austin_buses.csv.gz"
MAX_ROWS = 500_000  # that are read of a large file: a demo of 10 min does not need more
# Of somebody's own tracks: their last pings are replayed, and all before them are the history.
REPLAY_SHARE = 0.4
RATE = 500  # pings a second at most, which the servers take beside everything else on two cores
LEAST_HISTORY = 2_000  # pings; less has no passage that came the same way
DRAIN_S = 20.0  # for the last forecasts
SILENT_S = 2.0  # if no outcome comes for so long, the outstanding pings are duplicates, which get none
PARTITIONS = 4
PREFIX = "pathcast"
TOPICS = Topics.of(PREFIX)
# Of the map. A replay is two minutes a second, and buses report each minute.
TIMES = ("--keep", "30m", "--stale-after", "15m")


@dataclass(frozen=True)
class DemoOptions:
    """Holds what the demo replays, and how fast."""

    seconds: float  # how long to feed
    vehicles: int | None  # how many of the first vehicles; None: all
    data: Recording | None  # None: the bundled sample
    speedup: float | None  # None: so fast that it takes `seconds`
    weights: str
    has_map: bool = True
    stays: bool = False  # the map, after the replay, until Ctrl-C


class Screen(Protocol):
    """Shows people how far the demo is."""

    def __call__(self, doing: str) -> None:
        """Is called a few times a second with the present activity."""

    def address(self, map_url: str | None) -> None:
        """Is called with the address of the map, or None if it could not be started."""

    def done(self) -> None:
        """Is called when all is known that there is to say."""


def run(options: DemoOptions, board: Board, show: Screen) -> None:
    """Replays and collects into `board` until the time is over and all pings are answered. No process is left running
    when it returns.

    Raises PartFailed if the worker ends, never gets ready or answers nothing; RuntimeError if a server does not
    start; ValueError or OSError if the data cannot be read.
    """
    show("reading the tracks")
    rows, before, speedup = choose(options)
    with ExitStack() as stack:
        show("starting the broker and the store")
        broker, redis_url = stack.enter_context(embedded.broker_process()), stack.enter_context(embedded.store())
        bootstrap, folder = broker.address, broker.folder / "atlases"
        folder.mkdir()
        show("starting the worker")
        # Without the user's own settings of parts.
        plain = {name: value for name, value in os.environ.items() if not name.startswith("PATHCAST_")}
        env = environment(plain, bootstrap, redis_url, PREFIX, PLAIN_KAFKA, PLAIN_REDIS)
        given = ["--weights", options.weights, "--partitions", str(PARTITIONS)]
        given += ["--atlases", str(folder)] if before else []
        worker = RunningPart(worker_part("worker", *given), env)
        stack.callback(worker.stop)
        growth = atlas.of_history(before, folder, options.weights, bundled=options.data is None) if before else None
        board.atlas = None if growth is None else growth.write()  # while the worker starts
        worker.wait_until_ready(show, READY_S)
        if board.atlas is not None:
            show("announcing the atlas")
            atlas.announce(bootstrap, TOPICS, board.atlas)
        map_url = None
        if options.has_map:
            title = "pathcast demo" if options.data is None else f"pathcast try {Path(options.data.path).name}"
            map_url = _show_map(stack, folder, title, env, show)
            show.address(map_url)
        stop, failures = threading.Event(), list[BaseException]()
        _thread(stack, failures, lambda: _subscribe(bootstrap, board, stop))
        feeder = _thread(stack, failures, lambda: _feed(bootstrap, rows, options.seconds, speedup, board, stop))
        if growth is not None:
            pause_s = max(atlas.LEAST_S, atlas.EVERY_MS / 1000 / speedup)
            _thread(stack, failures, partial(atlas.grow, bootstrap, TOPICS, growth, board.rows, pause_s, stop))
        stack.callback(stop.set)  # pushed after the threads' joins, so that it is called before them
        while feeder.is_alive():
            _check(worker, failures)
            show("running")
            feeder.join(0.25)
        _drain(board, lambda: _check(worker, failures), show)
        if board.forecasts_out == 0:
            raise PartFailed("no forecast came", list(worker.lines))
        if options.data is not None:
            path = None if board.atlas is None else path_of(folder, board.atlas.version)
            waiting = partial(show, "hiding stretches, and filling them")
            board.gap_errors = judge_fills(board.rows, options.weights, path, waiting)
        if stays := options.stays and map_url is not None:
            _compare(options, board, show)
            _stay(worker)
    if not stays:
        _compare(options, board, show)


def _show_map(stack: ExitStack, atlases: Path, title: str, env: Mapping[str, str], show: Screen) -> str | None:
    """Starts a map of the forecasts, and returns its address; None if it does not start, for which the demo need not
    end. The topics must exist."""
    address = Address(embedded.HOST, embedded.usual_port(MAP_PORT))
    part = map_part(address, atlases, "--source", "forecasts", *TIMES, "--title", title)
    live_map = RunningPart(part, env)
    stack.callback(live_map.stop)
    with suppress(PartFailed):
        live_map.wait_until_ready(show, MAP_READY_S)
        return f"http://{address}"
    return None


def _compare(options: DemoOptions, board: Board, show: Screen) -> None:
    if board.atlas is not None:
        board.compare(atlas.alone(options.weights, board.rows, lambda: show("asking the model without the atlas")))
    show.done()


def _stay(worker: RunningPart) -> None:
    """Returns at Ctrl-C, which is the end that was asked for."""
    with suppress(KeyboardInterrupt):
        while True:
            _check(worker, [])
            time.sleep(0.5)


def choose(options: DemoOptions) -> tuple[Sequence[RecordedRow], Sequence[RecordedRow], float]:
    """Returns the rows to replay in the order of their times, the rows before them, and how many times real time the
    replay goes.

    They are the rows of the first `vehicles` in the file. With a speed, the replay begins at a time with many pings
    (`busiest`), or else after some history; without one, with the last pings that fit into the time.
    """
    chosen: set[bytes] = set()
    kept: list[RecordedRow] = []
    data = options.data or recording(SAMPLE)
    for row in data.rows():
        if row.key is not None and row.ts_ms is not None:  # the demo shows forecasts; `pathcast feed` sends all rows
            if options.vehicles is None or len(chosen) < options.vehicles:
                chosen.add(row.key)
            if row.key in chosen:
                kept.append(row)
        if len(kept) == MAX_ROWS:
            break
    if not kept:
        raise ValueError(f"{data.path}: no row has both an entity id and a time")
    kept.sort(key=lambda row: row.ts_ms or 0)
    times = [row.ts_ms or 0 for row in kept]
    if options.speedup is None:
        begin = len(kept) - min(int(RATE * options.seconds), max(1, int(REPLAY_SHARE * len(kept))))
        begin = begin if begin >= LEAST_HISTORY else max(0, len(kept) - int(RATE * options.seconds))
        span_s = (times[-1] - times[begin]) / 1000
        return kept[begin:], kept[:begin] if begin >= LEAST_HISTORY else [], max(1.0, span_s / options.seconds)
    span_ms = int(options.seconds * options.speedup * 1000)
    begin = busiest(times, span_ms) or atlas.after_history(times, span_ms)
    return kept[begin:], atlas.history(kept, begin), options.speedup


def busiest(times: Sequence[int], span: int) -> int:
    """Returns the index at which to begin, so that many of the sorted `times` are within `span` ms from there: 0,
    unless another index has more than twice as many (the vehicles of a long recording may hardly overlap)."""
    best, most, right = 0, 0, 0
    first = sum(1 for _ in takewhile(lambda time_ms: time_ms <= times[0] + span, times))
    for left, begin in enumerate(times):
        while right < len(times) and times[right] <= begin + span:
            right += 1
        if right - left > most:
            best, most = left, right - left
    return best if most > 2 * first else 0


def _check(worker: RunningPart, failures: list[BaseException]) -> None:
    if failures:
        raise failures[0]
    worker.check()


def _thread(stack: ExitStack, failures: list[BaseException], work: Callable[[], None]) -> threading.Thread:
    """Starts a thread, which is joined when the stack unwinds. Its error is passed to the main thread."""

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # the main thread raises it
            failures.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    stack.callback(thread.join, 10.0)
    return thread


def _feed(
    bootstrap: str,
    rows: Sequence[RecordedRow],
    seconds: float,
    speedup: float,
    board: Board,
    stop: threading.Event,
) -> None:
    due = takewhile(lambda pair: pair[0] <= seconds, pace(rows, speedup))
    with publisher(bootstrap, TOPICS.pings, linger_ms=0) as out:

        def send(row: RecordedRow) -> None:
            board.note_sent(row, time.monotonic())  # before it is sent, so that its forecast cannot come first
            out.send(row)

        replay(due, send, stop=stop.is_set)
        out.flush()


def _subscribe(bootstrap: str, board: Board, stop: threading.Event) -> None:
    with admin.connect(bootstrap) as client:
        counts = {info.name: info.partitions or 0 for info in admin.describe(client, TOPICS[1:])}
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(name, number) for name, count in counts.items() for number in range(count)])
    while not stop.is_set():
        polled = consumer.poll(100)
        clock_s = time.monotonic()
        for tp, records in polled.items():
            for record in records:
                if tp.topic == TOPICS.forecasts:
                    board.forecast(record.value, clock_s)
                elif tp.topic == TOPICS.gapfills:
                    board.gapfill(record.value)
                else:
                    board.reject(record.headers)
    consumer.close()


def _drain(board: Board, check: Callable[[], None], show: Callable[[str], None]) -> None:
    """Waits for the last answers, until none is outstanding, none has come for SILENT_S, or DRAIN_S are over."""
    deadline = time.monotonic() + DRAIN_S
    left, moved = board.outstanding, time.monotonic()
    while left > 0 and time.monotonic() < deadline and time.monotonic() - moved < SILENT_S:
        check()
        show("waiting for the last forecasts")
        time.sleep(0.1)
        if board.outstanding != left:
            left, moved = board.outstanding, time.monotonic()
