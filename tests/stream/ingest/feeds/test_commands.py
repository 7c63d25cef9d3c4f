"""What is wrong with a command is said before anything is connected: bad usage, with the option's name."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from stream.ingest.cli import app

URL = ("--url", "http://127.0.0.1:9/x")


@pytest.fixture
def grows(tmp_path: Path) -> str:
    (tmp_path / "a.ndjson").write_text("")
    return str(tmp_path / "a.ndjson")


def said(*arguments: str, **environment: str) -> str:
    """What a command that must be refused prints, in one line."""
    shown = CliRunner().invoke(app, arguments, env={"COLUMNS": "300", **environment})
    assert shown.exit_code == 2, shown.output
    return " ".join(shown.output.split())


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("gtfs-rt",), "Missing option '--url'"),
        (("gtfs-rt", "--url", "example.org/x"), "Invalid value for --url: expected a URL with its http"),
        (("gtfs-rt", *URL, "--every", "soon"), "Invalid value for --every: 'soon' is no time"),
        (("adsb", *URL, "--header", "secret"), "Invalid value for --header: a header is no 'NAME: VALUE'"),
        (("ais",), "expected one of --tcp, --listen-tcp, --listen-udp, got 0"),
        (("ais", "--tcp", "a:1", "--listen-udp", "2"), "expected one of --tcp, --listen-tcp, --listen-udp, got 2"),
        (("ais", "--tcp", "nowhere"), "Invalid value for --tcp: expected HOST:PORT"),
        (("ais", "--listen-udp", "x:70000"), "Invalid value for --listen-udp: expected HOST:PORT"),
        (("nmea", "--serial", "/dev/null", "--entity", ""), "Invalid value for --entity: entity_id has 0 characters"),
        (("nmea", "--serial", "/dev/null", "--entity", "a\nb"), "entity_id has control characters"),
        (("nmea", "--entity", "van-7"), "expected one of --serial, --tcp, --listen-tcp, --listen-udp, got 0"),
        (("nmea", "--tcp", "a:1", "--listen-udp", "2"), "--listen-tcp, --listen-udp, got 2"),
        (("nmea", "--serial", "/dev/null"), "give the receiver at the port a name: --entity NAME"),
        (("nmea", "--tcp", "tcp://nowhere"), "Invalid value for --tcp: expected HOST:PORT"),
        (("nmea", "--tcp", "a:1", "--entity", "10.0.0.7=x"), "IP= is for receivers that send here"),
        (("nmea", "--listen-udp", "1", "--entity", "10.0.0.7="), "entity_id has 0 characters"),
        (("nmea", "--listen-udp", "1", "--entity", "::1=a", "--entity", "[::1]=b"), "::1 has two names"),
        (("nmea", "--listen-udp", "1", "--entity", "a", "--entity", "b"), "a receiver has two names"),
        (("gpsd", "--entity", "x" * 129), "entity_id has 129 characters"),
        (("gpsd",), "Missing option '--entity'"),
        (("files", "/nowhere.csv"), "no such file"),
        (("files", "/nowhere.csv", "--follow"), "no such file"),
        (("files", "-", "--follow"), "only .ndjson, .jsonl and .csv files can be followed"),
        (("files", "x.parquet", "--follow"), "only .ndjson, .jsonl and .csv files can be followed"),
        (("files", "-", "--resume", "x"), "Invalid value for --resume: it is for --follow"),
        (("sample", "trains"), "'trains' is not one of"),
    ],
)
def test_bad_usage_is_said(arguments: tuple[str, ...], why: str) -> None:
    assert why in said(*arguments)


def test_bad_columns_and_maps_of_a_file_that_grows_are_said(grows: str) -> None:
    assert "columns: 'x' is not ours=yours" in said("files", grows, "--follow", "--columns", "x")
    assert "Invalid value for --map" in said("files", grows, "--follow", "--map", "nothing-known")
    assert "Invalid value for --resume" in said("files", grows, "--follow", "--resume", "/nowhere/places")


def test_a_secret_header_that_is_wrong_is_not_shown() -> None:
    shown = said("gtfs-rt", *URL, PATHCAST_FEED_HEADERS="X-Key: one\nhush hush: two")
    assert "a header is no 'NAME: VALUE'" in shown
    assert "two" not in shown
