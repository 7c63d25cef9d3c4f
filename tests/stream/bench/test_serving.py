"""What the benchmark of the HTTP API makes of its measurements, and the client that asks it."""

from __future__ import annotations

import asyncio

import pytest

from stream.bench.harness.line import Load, Measured
from stream.bench.harness.programs.requester import Ask, Asked, ask
from stream.bench.harness.report import UNKNOWN
from stream.bench.harness.servers import Servers
from stream.bench.serving.run import ALONE, ASKED, BESIDE, COLUMNS, KINDS, Options, Turn, in_turn, report_of


def turn(kind: str, p99_ms: float, missing: int = 0, refused: int = 0) -> Turn:
    measured = Measured(1_000.0, [5.0] * 98 + [p99_ms] * 2, missing, 0.1, Load(0.3, 0.2))
    if kind == ALONE:
        return Turn(kind, measured)
    asked = Asked(answered=100, statuses={"200": 100 - refused, "503": refused}, p50_ms=4.0, p99_ms=9.0, late_ms=0.0)
    return Turn(kind, measured, 0.5, asked if kind == ASKED else None)


def test_each_run_compares_its_own_measurements_and_none_is_always_the_first() -> None:
    assert sorted(in_turn(0)) == sorted(KINDS)
    assert {in_turn(number)[0] for number in range(3)} == set(KINDS)
    turns = [turn(kind, p99) for p99 in (10.0, 20.0, 40.0) for kind in KINDS]
    turns[2], turns[5], turns[8] = (turn(ASKED, p99) for p99 in (11.0, 24.0, 42.0))
    report = report_of(Options(runs=3), Servers("", "", "", None), 1.0, turns)
    assert report.numbers["p99_ratio"] == pytest.approx(1.1), "the median of 1.1, 1.2 and 1.05"


def test_what_is_missing_or_refused_is_added_up_and_not_averaged() -> None:
    turns = [turn(ALONE, 10.0), turn(BESIDE, 10.0, missing=1), turn(ASKED, 10.0, missing=2, refused=3)] * 2
    rows = report_of(Options(runs=2), Servers("", "", "", None), 1.0, turns).tables[0].rows
    by_name = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    assert [row["missing"] for row in by_name] == [0, 2, 4]
    assert [row["not 200"] for row in by_name] == [UNKNOWN, UNKNOWN, 6]
    assert [row["serve, % of a core"] for row in by_name] == [UNKNOWN, 50.0, 50.0]


async def test_the_client_counts_every_answer_however_the_bytes_come() -> None:
    """Answers come in pieces and several at once; each entity is asked in its turn."""
    paths: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.readuntil(b"\r\n\r\n"):
            paths.append(request.split()[1].decode())
            status = b"200 OK" if len(paths) % 10 else b"503 Service Unavailable"
            raw = b"HTTP/1.1 %s\r\nServer: x\r\nContent-Length: 7\r\n\r\n{\r\n\r\n1}" % status
            for at in range(0, len(raw), 9):
                writer.write(raw[at : at + 9])
                await asyncio.sleep(0)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        how = Ask(
            url=f"http://127.0.0.1:{port}",
            entities=["a", "b/c"],
            rate_per_s=2_000.0,
            count=100,
            query="horizon_s=60",
            connections=3,
        )
        said = await ask(how)
    assert said.answered == 100
    assert said.statuses == {"200": 90, "503": 10}
    assert sorted(set(paths)) == ["/v1/entities/a/forecast?horizon_s=60", "/v1/entities/b%2Fc/forecast?horizon_s=60"]
    assert 0 <= said.p50_ms <= said.p99_ms
