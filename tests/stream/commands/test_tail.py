"""What `pathcast tail` makes of records that others wrote, and how it ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import msgspec
import pytest
import typer
from services_rig import forecast, gap
from typer.testing import CliRunner

import stream.kafka.following
from stream.commands.feed import _time
from stream.commands.tail_cli import dead_letter_json, dead_letter_line, forecast_line, gapfill_line, tail
from stream.wire import (
    Headers,
    Record,
    Reject,
    dead_letter,
)

APP = typer.Typer()
APP.command()(tail)
T0 = 1_700_000_000_000
SENT = (("__pathcast.errors.note", None), ("__pathcast.errors.offset", None))  # as a sender may


def letter(timestamp_ms: int = T0, headers: Headers = ()) -> Record:
    came = Record("pings", 0, 5, timestamp_ms, b"bus", b"{", headers)
    made = dead_letter("pings.dlq", came, Reject("invalid_json", "not JSON"), version="1")
    return Record("pings.dlq", 0, 0, T0, made.key, made.value, made.headers)


def test_a_header_without_a_value_is_no_reason_to_show_nothing() -> None:
    found = msgspec.json.decode(dead_letter_json(letter(headers=SENT)))
    assert (found["code"], found["offset"], found["timestamp"]) == ("invalid_json", 5, T0)
    assert "invalid_json: not JSON" in dead_letter_line(letter(headers=SENT))


def test_a_record_that_is_no_letter_is_shown_all_the_same() -> None:
    foreign = Record("pings.dlq", 0, 0, T0, None, None, (("__pathcast.errors.timestamp", b"noon"), *SENT))
    assert "offset" not in msgspec.json.decode(dead_letter_json(foreign))
    assert dead_letter_line(foreign).startswith("2023-11-14 22:13:20  -")


STEERS = "\x1b[2J\x9b2J\r\n2023-11-14 22:13:20  forged\u202e\u2028"


def test_what_a_sender_wrote_steers_no_terminal_and_forges_no_line() -> None:
    headers = (("__pathcast.errors.code", STEERS.encode()), ("__pathcast.errors.message", STEERS.encode()))
    came = letter()._replace(key=STEERS.encode(), value=STEERS.encode(), headers=headers)
    line = dead_letter_line(came)
    assert line.isprintable()
    assert line.count("\\x1b[2J\\x9b2J\\r\\n") == 4
    as_json = dead_letter_json(came)
    assert as_json.decode().isprintable()
    assert msgspec.json.decode(as_json)["key"] == STEERS


def test_a_forecast_of_an_id_that_turns_the_text_around_does_not() -> None:
    turning = "\u202ebus"  # which `clean` takes
    assert "  \\u202ebus " in forecast_line(forecast(turning, T0, 5))
    assert "  \\u202ebus " in gapfill_line(gap(turning, T0, T0 + 60_000))


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (253_402_300_799_999, "9999-12-31 23:59:59"),
        (253_402_300_800_000, "253402300800000"),
        (2**62, "4611686018427387904"),
        (-(2**62), "-4611686018427387904"),
        (-1, "no time"),
    ],
)
def test_a_time_that_no_calendar_has_is_shown_as_its_number(ms: int, shown: str) -> None:
    assert dead_letter_line(letter(ms)).startswith(f"{shown}  bus ")
    assert _time(ms) == shown, "and so does the progress of a feed"


@pytest.mark.parametrize("as_json", [[], ["--json"]])
@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "no records came to fleet.forecasts.v1 at kafka:9 just now: --from earliest shows those that are there"),
        (["--from", "earliest"], "fleet.forecasts.v1 at kafka:9 has no records"),
        (["--from", "earliest", "--entity", "bus"], "fleet.forecasts.v1 at kafka:9 has no records of entity bus"),
    ],
)
def test_an_end_without_records_is_said_beside_the_output(
    monkeypatch: pytest.MonkeyPatch, more: list[str], said: str, as_json: list[str]
) -> None:
    """Silence looked the same for an empty topic, a mistyped entity and a command that had not worked."""
    other = Record("fleet.forecasts.v1", 0, 0, T0, b"another", b"{}")

    async def follow(*_: object, **__: object) -> AsyncGenerator[Record]:
        if "--entity" in more:
            yield other

    monkeypatch.setattr(stream.kafka.following, "follow", follow)
    where = ["--no-follow", "--bootstrap", "kafka:9", "--prefix", "fleet"]
    ran = CliRunner().invoke(APP, ["forecasts", *where, *more, *as_json])
    assert (ran.exit_code, ran.stdout, ran.stderr) == (0, "", f"{said}\n")


@pytest.mark.parametrize("more", [[], ["--limit", "1", "--json"]])
def test_the_consumer_is_closed_however_the_command_ends(monkeypatch: pytest.MonkeyPatch, more: list[str]) -> None:
    """Left open, by an error whose traceback holds it, it once kept the process from ending."""
    closed = False

    async def follow(*_: object, **__: object) -> AsyncGenerator[Record]:
        nonlocal closed
        try:
            while True:
                yield Record("pathcast.forecasts.v1", 0, 0, T0, b"bus", b"no forecast")
        finally:
            closed = True

    monkeypatch.setattr(stream.kafka.following, "follow", follow)
    ran = CliRunner().invoke(APP, ["forecasts", *more])
    assert closed
    assert isinstance(ran.exception, msgspec.DecodeError) or more
