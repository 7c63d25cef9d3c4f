"""The run of one ingest process: pages, counts, and how it ends."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
import typer
from typer.testing import CliRunner

from stream.config.http_access import Address, address_of
from stream.ingest.cli import app
from stream.ingest.pages import Pages
from stream.ingest.publishing.sink import Sink, TakenCounts
from stream.ingest.source import Source
from stream.wire import Topics


def a_sink() -> Sink:
    return Sink("127.0.0.1:1", Topics.of(), "samsara")


async def rendered(pages: Pages) -> dict[str, float]:
    body = (await pages.pages()["/metrics"].answer()).body.decode()
    lines = (line.rpartition(" ") for line in body.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


async def test_what_was_taken_shows_by_adapter_code_and_why() -> None:
    sink, source = a_sink(), Source("http")
    sink.by_adapter["samsara"] = TakenCounts(3, Counter(null_island=2), Counter(lwt=1), 4)
    sink.by_adapter["motive"] = TakenCounts(5)
    shown = await rendered(Pages(sink, source))
    assert shown['pathcast_ingest_pings_total{adapter="samsara"}'] == 3
    assert shown['pathcast_ingest_pings_total{adapter="motive"}'] == 5
    assert shown['pathcast_ingest_rejects_total{adapter="samsara",code="null_island"}'] == 2
    assert shown['pathcast_ingest_skips_total{adapter="samsara",why="lwt"}'] == 1
    assert shown['pathcast_ingest_unavailable_total{adapter="samsara"}'] == 4
    assert shown["pathcast_ingest_kafka_away"] == 0
    assert sink.taken == TakenCounts(8, Counter(null_island=2), Counter(lwt=1), 4)
    assert sink.taken.in_words() == "8 pings, 2 rejects (null_island 2), 1 skips (lwt 1), 4 messages not taken"


async def test_a_process_is_ready_once_it_has_begun_and_while_its_source_is_there() -> None:
    sink, source = a_sink(), Source("mqtt")
    ready = Pages(sink, source).pages()["/readyz"].answer
    assert b"not connected yet" in (await ready()).body
    source.started = True
    assert (await ready()).status == 200
    source.away("the broker refused us")
    assert ((await ready()).status, b"refused" in (await ready()).body) == (503, False), "no text of others in a probe"
    source.back()
    assert (await ready()).status == 200
    await asyncio.sleep(0)


def test_each_module_of_commands_is_a_command() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120"})
    assert shown.exit_code == 0, shown.output
    assert " http " in shown.stdout
    assert " presets " in shown.stdout


def test_presets_are_listed_and_printed() -> None:
    listed = CliRunner().invoke(app, ["presets"]).stdout
    assert {"samsara", "motive", "flespi"} <= {line.split()[0] for line in listed.splitlines()}
    assert 'name = "samsara"' in CliRunner().invoke(app, ["presets", "samsara"]).stdout
    assert CliRunner().invoke(app, ["presets", "samsarra"]).exit_code == 2


def test_an_address_is_parsed_or_told_by_its_option() -> None:
    assert address_of("0.0.0.0:9484", "--metrics") == Address("0.0.0.0", 9484)
    with pytest.raises(typer.BadParameter):
        address_of("x:y", "--metrics")


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--map", "samsarra"], {}, "is samsara meant"),
        (["--map", "motive", "--listen", "0.0.0.0:0"], {}, "anybody who reaches 0.0.0.0:0"),
        (["--map", "motive", "--listen", "nowhere"], {}, "--listen"),
        ([], {}, "--map"),
    ],
)
def test_http_refuses_what_cannot_be_meant(arguments: list[str], environment: dict[str, str], said: str) -> None:
    shown = CliRunner().invoke(app, ["http", *arguments], env={"COLUMNS": "200", **environment})
    assert shown.exit_code == 2, shown.output
    assert said in " ".join(shown.output.replace("│", " ").split())
