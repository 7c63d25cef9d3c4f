"""What a worker says of silence, what names it knows, and how its log lines look."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from stream.config import environment, http_access
from stream.config.security import unknown_host
from stream.config.settings import Settings
from stream.worker.log_format import LogFormat, formatter, relay
from stream.worker.startup import SILENCE_S, notice_silence
from stream.worker.tracing import tracer


def silences(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "no pings on" in record.getMessage()]


def watch(pings: Callable[[float], int], assigned: Callable[[float], bool], until_s: float) -> float:
    """How many seconds the watch for silence runs, at most `until_s`, on a clock of its own."""
    clock_s = 0.0

    class Over(Exception):
        pass

    async def pause(seconds: float) -> None:
        nonlocal clock_s
        clock_s += seconds
        if clock_s >= until_s:
            raise Over

    with suppress(Over):
        asyncio.run(notice_silence("p.pings.v1", lambda: pings(clock_s), lambda: assigned(clock_s), pause=pause))
    return clock_s


def test_silence_is_said_once_after_half_a_minute_with_partitions(caplog: pytest.LogCaptureFixture) -> None:
    assert watch(lambda now_s: 0, lambda now_s: now_s > 100, until_s=1000) == 100 + SILENCE_S
    (said,) = silences(caplog)
    assert said.startswith("no pings on p.pings.v1 for 30 s")


@pytest.mark.parametrize(
    ("pings", "assigned"),
    [(lambda now_s: int(now_s > 25), lambda now_s: True), (lambda now_s: 0, lambda now_s: False)],
    ids=["a ping came", "an idle worker has no partitions"],
)
def test_no_silence_is_said_otherwise(
    caplog: pytest.LogCaptureFixture, pings: Callable[[float], int], assigned: Callable[[float], bool]
) -> None:
    watch(pings, assigned, until_s=1000)
    assert silences(caplog) == []


def test_hosts_are_unknown_only_if_all_are() -> None:
    assert unknown_host("nobody.invalid:9092,127.0.0.1:9092") is None
    assert unknown_host("[::1]:9092") is None
    assert unknown_host("localhost") is None
    assert unknown_host("nobody.invalid:9092,nobody-else.invalid") == "nobody.invalid"
    assert unknown_host(f"{'a' * 64}.invalid:1") == f"{'a' * 64}.invalid"


# -- log lines --------------------------------------------------------------------------------------------------------


def record(message: str, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, error.__traceback__)
    made = logging.LogRecord("stream.x", logging.WARNING, __file__, 1, message, arguments, info)
    made.created = 1_795_957_445.1929
    return made


@pytest.fixture
def in_kathmandu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Asia/Kathmandu")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_kathmandu")
def test_times_are_utc_to_the_millisecond_wherever_the_machine_is() -> None:
    text = formatter(LogFormat.TEXT, None).format(record("%d pings", 7))
    assert text == "2026-11-29T13:04:05.192Z WARNING 7 pings"


@pytest.mark.parametrize("message", ['quote " and\nline end', "\ud800 alone", "\x1b[31m", "ключ"])
def test_json_is_one_object_on_one_line_whatever_the_message_holds(message: str) -> None:
    line = formatter(LogFormat.JSON, 2).format(record("%s", message, error=ValueError("why\nso")))
    assert "\n" not in line
    fields = json.loads(line)
    assert (fields["time"], fields["level"], fields["logger"]) == ("2026-11-29T13:04:05.192Z", "warning", "stream.x")
    assert (fields["worker"], isinstance(fields["pid"], int)) == (2, True)
    assert fields["message"] == message.encode("utf-8", "backslashreplace").decode()
    assert "ValueError: why\nso" in fields["exception"]


def test_a_line_that_no_logger_wrote_becomes_an_object_too() -> None:
    ours = formatter(LogFormat.JSON, 2).format(record("x"))
    assert relay(LogFormat.JSON, 2, ours) == ours
    for line in ("Fatal Python error: Segmentation fault", "[1, 2]", "{"):
        fields = json.loads(relay(LogFormat.JSON, 2, line))
        assert (fields["message"], fields["worker"]) == (line, 2)
    assert relay(LogFormat.TEXT, 2, "x") == "worker 2 | x"


# -- variables --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def names() -> set[str]:
    from typer.main import get_command

    from stream.commands.main import build

    return environment.known(get_command(build()))


def test_options_secrets_and_their_files_are_known(names: set[str]) -> None:
    assert {"PATHCAST_BOOTSTRAP", "PATHCAST_WAIT_S", "PATHCAST_KAFKA_PASSWORD_FILE", "PATHCAST_METRICS_TOKEN"} <= names
    tokens = {name for constant, name in vars(http_access).items() if constant.endswith("TOKEN")}
    assert tokens <= names, "the map said of its own that it has no effect"
    assert environment.unknown([*names, "HOME", "PATHCAST_TEST_KAFKA", "PATHCAST_REQUIRE_REDIS"], names) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [("PATHCAST_BOOTSTARP", "PATHCAST_BOOTSTRAP"), ("PATHCAST_REDIS_URL", "PATHCAST_REDIS"), ("PATHCAST_ZZ", None)],
)
def test_an_unknown_variable_is_told_with_the_nearest_known_name(names: set[str], name: str, meant: str | None) -> None:
    (line,) = environment.unknown([name], names)
    assert name in line
    assert (f"is {meant} meant?" in line) if meant else ("meant" not in line)


def test_nothing_is_traced_by_default_even_where_a_collector_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    ends: list[Callable[[], None]] = []
    assert tracer(Settings(), ends) is None
    assert ends == []
