"""Recorded files and files that grow, with a Kafka that can be away."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import feeds_rig
import pytest
from feeds_rig import SinkInMemory

from stream.adapters.recorded import recording
from stream.ingest.feeds import files
from stream.ingest.feeds.following import FilePositions
from stream.ingest.source import Source

T0 = 1_700_000_000_000
NONE = Source("files")


def row(number: int) -> bytes:
    fields = {"entity_id": f"bus-{number % 3}", "ts": T0 + number * 1000, "lat": 1.0, "lon": 2.0}
    return json.dumps(fields).encode() + b"\n"


def csv(number: int) -> bytes:
    return b"bus-%d,%d,1.0,2.0\n" % (number % 3, T0 + number * 1000)


def numbers(sink: SinkInMemory) -> list[int]:
    return [(ping.ts - T0) // 1000 for ping in sink.pings]


async def send(sink: Any, *paths: Path) -> None:
    await files.send_all([(str(path), recording(path)) for path in paths], sink, NONE)


async def test_files_come_in_the_order_of_their_rows(tmp_path: Path) -> None:
    sink = SinkInMemory()
    (tmp_path / "a.ndjson").write_bytes(b"".join(map(row, range(5_000))))
    (tmp_path / "b.csv").write_bytes(b"entity_id,ts,lat,lon\n" + b"".join(map(csv, range(5_000, 5_010))))
    await send(sink, tmp_path / "a.ndjson", tmp_path / "b.csv")
    assert numbers(sink) == list(range(5_010))


async def test_a_row_that_is_no_ping_is_a_dead_letter_at_once(tmp_path: Path) -> None:
    sink, path = SinkInMemory(), tmp_path / "a.ndjson"
    path.write_bytes(row(0) + b"no json\n" + b'{"entity_id":"a","ts":1,"lat":91,"lon":0}\n' + row(1))
    await send(sink, path)
    assert numbers(sink) == [0, 1]
    assert [(found.code, found.stage, raw) for found, raw in sink.letters] == [
        ("invalid_json", "adapter", b"no json"),
        ("lat_out_of_range", "adapter", b'{"entity_id":"a","ts":1,"lat":91,"lon":0}'),
    ]


async def test_it_goes_on_where_it_was_when_kafka_is_back(tmp_path: Path) -> None:
    sink, path = SinkInMemory(), tmp_path / "a.ndjson"
    path.write_bytes(b"".join(map(row, range(9_000))))
    async with feeds_rig.running(send(sink, path)) as work:
        await feeds_rig.until(lambda: sink.pings)
        sink.go_away()
        await feeds_rig.until(lambda: sink.refused)
        assert len(sink.pings) < 9_000
        sink.come_back()
        await work
    assert numbers(sink) == list(range(9_000))


async def test_a_file_that_is_none_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"a\.parquet: not a Parquet file"):
        await send(SinkInMemory(), tmp_path / "a.parquet")


@pytest.mark.parametrize(("name", "head", "line"), [("a.ndjson", b"", row), ("a.csv", b"entity_id,t,lat,lon\n", csv)])
async def test_what_is_appended_is_sent(tmp_path: Path, name: str, head: bytes, line: Any) -> None:
    sink, path = SinkInMemory(), tmp_path / name

    def follow() -> Any:
        return feeds_rig.running(files.follow([path], None, None, FilePositions(tmp_path / "kept"), sink, NONE))  # type: ignore[arg-type]

    path.write_bytes(head + line(0) + line(1)[:9])
    async with follow():
        await feeds_rig.until(lambda: len(sink.pings) == 1)
        sink.go_away()
        with path.open("ab") as file:
            file.write(line(1)[9:] + line(2))
        await feeds_rig.until(lambda: sink.refused)
        sink.come_back()
        await feeds_rig.until(lambda: len(sink.pings) == 3)
        await feeds_rig.until(
            lambda: FilePositions(tmp_path / "kept").of(path) == (path.stat().st_ino, path.stat().st_size)
        )
    with path.open("ab") as file:
        file.write(line(3))
    async with follow():
        await feeds_rig.until(lambda: len(sink.pings) == 4)
    assert numbers(sink) == [0, 1, 2, 3], "a new process goes on"


async def test_a_file_without_our_columns_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"x,y\n1,2\n")
    with pytest.raises(ValueError, match="no column entity_id"):
        await files.follow([path], None, None, FilePositions(None), SinkInMemory(), NONE)  # type: ignore[arg-type]


def test_a_line_of_a_silent_pipe_is_read_at_once_and_the_end_does_not_wait_for_it() -> None:
    """A thread of the pool, or one that holds the lock of sys.stdin, would keep the process, or abort it."""
    program = (
        "import asyncio\n"
        "from stream.ingest.feeds.files import standard_input_chunks\n"
        "async def main():\n"
        "    async for data in standard_input_chunks():\n"
        "        print(data, flush=True)\n"
        "        return\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"b'one\\n'\n"
        assert process.wait(timeout=feeds_rig.PATIENCE_S) == 0  # its standard input is still open
