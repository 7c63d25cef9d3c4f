"""What the Kafka commands share on the command line. Knows Typer; opens no connection."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer

from stream.config.settings import Settings
from stream.wire import NO_TIME_MS

DEFAULT_BOOTSTRAP = Settings.bootstrap
DEFAULT_PREFIX = Settings.prefix

Bootstrap = Annotated[
    str, typer.Option("--bootstrap", envvar="PATHCAST_BOOTSTRAP", help="Kafka, host:port[,host:port...]")
]
Prefix = Annotated[str, typer.Option("--prefix", envvar="PATHCAST_PREFIX", help="of every topic name")]
Json = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]


@contextmanager
def quiet() -> Iterator[None]:
    """For a command's whole run: no log lines of the Kafka client between ours, and a closed pipe (`| head`) is an end.

    What goes wrong reaches us as an exception, which the root command turns into one line.
    """
    for name in ("kafka", "aiokafka"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout once more at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def utc(ts_ms: int) -> str:
    """A time for people; of one that no calendar has, as a sender may write it, the number."""
    if ts_ms == NO_TIME_MS:
        return "no time"
    try:
        return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):  # beyond the year 9999, a float, or what C's time functions take
        return str(ts_ms)
