"""The live part of `pathcast train refresh`. Heavy imports wait for the call."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import typer

from stream.config import failpoints
from stream.config.http_access import address_of, check_free, token
from stream.config.options import log_to_stderr
from stream.config.times import seconds

if TYPE_CHECKING:
    from train.refresh.live.champion import LiveRefresh

REFUSED = 3  # exit code, as of files


def open_live(
    url: str, cache: Path | None, bootstrap: str, directory: Path, options: dict[str, Any], **more: Any
) -> LiveRefresh:
    """Returns what a refresh needs to know. It imports what training needs."""
    from stream.registry import Registry
    from train.refresh.live.champion import LiveRefresh
    from train.refresh.run import RefreshOptions

    return LiveRefresh(Registry.open(url, cache), bootstrap, directory, RefreshOptions(**options), **more)


def run_live(
    live: Callable[[], LiveRefresh], directory: Path, topic: str, every: str | None, *, metrics: str, as_json: bool
) -> None:
    """Makes one round, or goes on until it is told to stop. `metrics` is where its pages are served, if anywhere."""
    import msgspec

    from stream.http.beside import serving_beside
    from stream.http.rounds import RoundPages
    from train.refresh.live import serving

    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    log_to_stderr()
    logging.getLogger("train").setLevel(logging.INFO)
    if (pipe := os.environ.get(serving.ROUND)) is not None:
        serving.make_round(live, int(pipe))
        return
    door = address_of(metrics, "--metrics") if metrics else None
    if door is not None:
        check_free(door)
    every_s = None if every is None else seconds(every, "--every")
    rounds = serving.build_notes(every_s)
    with serving_beside(door, token(os.environ), RoundPages(rounds).pages()), stop_on_signals() as stop:
        if every_s is not None:
            serving.serve(directory, topic, every_s, stop, rounds, partial(serving.make_apart, stop, rounds))
            return
        from train.fit.trainer import Interrupted
        from train.refresh.cli import show_progress
        from train.refresh.live import service

        try:
            with show_progress() as watch:
                ended = service.run_once(live(), service.Patience(stop, rounds=rounds), watch)
        except Interrupted as error:
            raise RuntimeError("stopped; the same command goes on from here") from error
    typer.echo(msgspec.json.encode(ended) if as_json else ended.line)
    if ended.outcome not in ("canary", "promote"):
        raise typer.Exit(REFUSED)


@contextmanager
def stop_on_signals() -> Iterator[Event]:
    """Yields an event that SIGTERM and SIGINT set. The second signal is not waited for."""
    stop = Event()
    before: dict[int, Any] = {}

    def tell(number: int, frame: Any) -> None:
        stop.set()
        signal.signal(number, before[number])

    for caught in (signal.SIGTERM, signal.SIGINT):
        before[caught] = signal.signal(caught, tell)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
