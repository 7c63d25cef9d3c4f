"""What `pathcast tail` makes of records that others wrote, and how it ends."""

from __future__ import annotations

from collections.abc import Generator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import typer
from forecast_rig import forecast_of
from typer.testing import CliRunner

import stream.kafka.following
from stream.commands.feed import _time
from stream.commands.tail import dead_letter_json, dead_letter_line, forecast_line, gapfill_line
from stream.commands.tail_cli import tail
from stream.wire import (
    Anchor,
    GapFill,
    Headers,
    ModelRef,
    NextStep,
    Record,
    Reject,
    dead_letter,
    dumps,
)

T0 = 1_700_000_000_000
SENT = (("__pathcast.errors.note", None), ("__pathcast.errors.offset", None))  # as a sender may


def letter(timestamp_ms: int = T0, headers: Headers = ()) -> SimpleNamespace:
    """As kafka-python has it."""
    came = Record("pings", 0, 5, timestamp_ms, b"bus", b"{", headers)
    made = dead_letter("pings.dlq", came, Reject("invalid_json", "not JSON"), version="1")
    return SimpleNamespace(key=made.key, value=made.value, headers=made.headers, timestamp=T0)


def test_a_header_without_a_value_is_no_reason_to_show_nothing() -> None:
    found = msgspec.json.decode(dead_letter_json(letter(headers=SENT)))  # type: ignore[arg-type]
    assert (found["code"], found["offset"], found["timestamp"]) == ("invalid_json", 5, T0)
    assert "invalid_json: not JSON" in dead_letter_line(letter(headers=SENT))  # type: ignore[arg-type]


def test_a_record_that_is_no_letter_is_shown_all_the_same() -> None:
    foreign = SimpleNamespace(
        key=None, value=None, headers=[("__pathcast.errors.timestamp", b"noon"), *SENT], timestamp=T0
    )
    assert "offset" not in msgspec.json.decode(dead_letter_json(foreign))
    assert dead_letter_line(foreign).startswith("2023-11-14 22:13:20  -")


STEERS = "\x1b[2J\x9b2J\r\n2023-11-14 22:13:20  forged\u202e\u2028"


def test_what_a_sender_wrote_steers_no_terminal_and_forges_no_line() -> None:
    came = letter()
    came.key = came.value = STEERS.encode()
    came.headers = [("__pathcast.errors.code", STEERS.encode()), ("__pathcast.errors.message", STEERS.encode())]
    line = dead_letter_line(came)
    assert line.isprintable()
    assert line.count("\\x1b[2J\\x9b2J\\r\\n") == 4
    as_json = dead_letter_json(came)
    assert as_json.decode().isprintable()
    assert msgspec.json.decode(as_json)["key"] == STEERS


def test_a_forecast_of_an_id_that_turns_the_text_around_does_not() -> None:
    step = NextStep(dt_s=10.0, d_east_m=1.0, d_north_m=2.0, d_lat=0.0, d_lon=0.0, cov_m2=(1.0, 0.0, 1.0))
    forecast = forecast_of("\u202ebus", Anchor(T0, 30.0, -97.0), step)  # an id that `clean` takes
    assert "  \\u202ebus " in forecast_line(dumps(forecast))
    fill = GapFill(
        gap_id="g",
        entity_id="\u202ebus",
        revision=0,
        status="final",
        start=Anchor(T0, 30.0, -97.0),
        end=Anchor(T0 + 60_000, 30.0, -97.0),
        reason="silence",
        method="model",
        points=(),
        length_m=1.0,
        max_sigma_m=1.0,
        model=ModelRef("small", "1"),
        issued_ts=T0,
    )
    assert "  \\u202ebus " in gapfill_line(dumps(fill))


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
    other = SimpleNamespace(key=b"another", value=b"{}", headers=[], timestamp=T0)

    def follow(*_: object, **__: object) -> Generator[Any]:
        yield from [other] if "--entity" in more else []

    monkeypatch.setattr(stream.kafka.following, "follow", follow)
    app = typer.Typer()
    app.command()(tail)
    where = ["--no-follow", "--bootstrap", "kafka:9", "--prefix", "fleet"]
    ran = CliRunner().invoke(app, ["forecasts", *where, *more, *as_json])
    assert (ran.exit_code, ran.stdout, ran.stderr) == (0, "", f"{said}\n")


@pytest.mark.parametrize("more", [[], ["--limit", "1", "--json"]])
def test_the_consumer_is_closed_however_the_command_ends(monkeypatch: pytest.MonkeyPatch, more: list[str]) -> None:
    """Left open, by an error whose traceback holds it, it once kept the process from ending."""
    closed = False

    def follow(*_: object, **__: object) -> Generator[Any]:
        nonlocal closed
        try:
            while True:
                yield SimpleNamespace(key=b"bus", value=b"no forecast", headers=[], timestamp=T0)
        finally:
            closed = True

    monkeypatch.setattr(stream.kafka.following, "follow", follow)
    app = typer.Typer()
    app.command()(tail)
    ran = CliRunner().invoke(app, ["forecasts", *more])
    assert closed
    assert isinstance(ran.exception, msgspec.DecodeError) or more
