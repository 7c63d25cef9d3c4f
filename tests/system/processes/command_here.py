"""`pathcast ...` in the test's own process, as the script runs it, and tables of how it refuses to work. Tests import
this; it tests nothing itself."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from pathcast_process import PATIENCE_S
from typer.testing import CliRunner

from stream.commands.main import main
from stream.kafka import admin

NOBODY = "127.0.0.1:1"  # no user's process can listen there
SECRET = "hush-hush"
ABSENT_S = 0.2  # a broker that is not there is no longer waited for: what comes then does not depend on it
BOX = str.maketrans("", "", "│╭╮╰╯─")  # that Typer draws around bad usage


class Outcome(NamedTuple):
    """Holds a command's exit code, and what it wrote."""

    status: int
    out: str
    err: str


def run(*arguments: object, **variables: str) -> Outcome:
    """Runs a command from the root on, with the part that makes one line of an error, and undoes what it sets for its
    whole process. Only these variables of ours are in the environment. One that does not end by itself fails."""
    ours = {name: None for name in os.environ if name.startswith("PATHCAST_")}
    with _restored(), CliRunner().isolation(env={**ours, "COLUMNS": "160", **variables}) as (out, err, _):
        sys.argv = ["pathcast", *map(str, arguments)]
        with pytest.raises(SystemExit) as end:
            main()
        sys.stdout.flush()
        sys.stderr.flush()
        status = end.value.code
        assert isinstance(status, int), status
        return Outcome(status, out.getvalue().decode(), err.getvalue().decode())


@contextmanager
def _restored() -> Iterator[None]:
    """Puts back what commands set for good, as each has a process of its own: arguments, the log, signals, how threads
    end. The log begins as that of a new process, without pytest's handlers, so that its lines are on stderr."""
    root, loggers = logging.getLogger(), [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    handlers, levels = root.handlers[:], [(logger, logger.level) for logger in (root, *loggers)]
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    handlers_of = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(int(PATIENCE_S))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv)
        patch.setattr(threading, "excepthook", threading.excepthook)
        patch.setattr("stream.worker.memory.keep_freed", lambda: None)  # malloc cannot be told to be as before
        root.handlers[:] = []
        try:
            yield
        finally:
            signal.alarm(0)
            root.handlers[:] = handlers
            logging.captureWarnings(False)
            for logger, level in levels:
                logger.setLevel(level)
            for number, handler in handlers_of.items():
                signal.signal(number, handler)


def _give_up(*_: object) -> None:
    pytest.fail("the command goes on")


@contextmanager
def impatient() -> Iterator[None]:
    """Gives a broker that is absent a moment to come, in place of eight seconds."""
    usual = admin.timeouts

    def timeouts(timeout_s: float) -> dict[str, int]:
        return {**usual(timeout_s), "bootstrap_timeout_ms": int(ABSENT_S * 1000)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(admin, "timeouts", timeouts)
        yield


class Refusal(NamedTuple):
    """Holds a command that must fail, its exit code, and what it says; dots stand for words that are left out. Both
    have places such as {kafka}."""

    command: str
    status: int
    sentence: str


def assert_refused(refusal: Refusal, places: Mapping[str, Any]) -> None:
    """Raises AssertionError unless the command ends with this code and sentence, on stderr alone, without a traceback
    and without the secret. An error (1) is one line, and the last; before it are at most lines of a log. Bad usage (2)
    has the way that is right before it."""
    arguments = [word.format(**places) for word in shlex.split(refusal.command)]
    status, out, err = run(*arguments)
    assert status == refusal.status, err
    assert out == ""
    assert "Traceback" not in err
    assert SECRET not in err
    if refusal.status == 1:
        *before, text = err.splitlines()
        assert all(" INFO " in line for line in before), err
        assert text.startswith("error: "), err
    else:
        assert err.startswith("Usage: pathcast "), err
        text = " ".join(err.translate(BOX).split())
    at = 0
    for part in refusal.sentence.format(**places).split(" ... "):
        at = text.find(part, at)
        assert at >= 0, f"no {part!r} in:\n{err}"


def name_of(refusal: Refusal) -> str:
    """Returns the name of the test of a refusal."""
    return refusal.command
