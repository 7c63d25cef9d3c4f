"""Receivers that cannot be held back: a serial port (a pseudo terminal) and a gpsd, which come and go."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import feeds_rig
import pytest
from feeds_rig import SinkInMemory
from live_rig import RMC, sentence

from stream.adapters.live.formats import gpsd as reports
from stream.adapters.live.formats import nmea
from stream.config.http_access import Address
from stream.ingest.feeds import receivers
from stream.ingest.feeds.holding import HoldingQueue
from stream.ingest.feeds.lines import ReceivedBytes, by_line
from stream.ingest.source import Source
from stream.up.embedded import free_port

T0_S = 1_764_489_960  # 2025-11-30T08:06:00Z


def rmc(second: int) -> bytes:
    return sentence(RMC.replace("080638", f"0806{second:02}"))


def tpv(second: int) -> bytes:
    fix = {"mode": 3, "time": f"2025-11-30T08:06:{second:02}.000Z", "lat": 1.0, "lon": 2.0}
    return json.dumps({"class": "TPV", "device": "/dev/x", **fix}).encode() + b"\r\n"


def seconds(sink: SinkInMemory) -> list[int]:
    return [ping.ts // 1000 - T0_S for ping in sink.pings]


@contextmanager
def plugged(path: Path) -> Iterator[int]:
    """A receiver at this path: a descriptor to write into."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    path.unlink(missing_ok=True)
    path.symlink_to(os.ttyname(theirs))
    os.close(theirs)
    try:
        yield ours
    finally:
        os.close(ours)


async def test_a_receiver_that_was_unplugged_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receivers, "RETRY_S", 0.05)
    sink, source, port = SinkInMemory(), Source("nmea"), tmp_path / "ttyUSB0"
    read = by_line(nmea.Receiver("van-7").read)
    work = receivers.read_serial_port(str(port), 9600, read, sink, source, most=100)  # type: ignore[arg-type]
    async with feeds_rig.running(work):
        await feeds_rig.until(lambda: source.is_away)
        for second in (1, 3):
            with plugged(port) as line:
                await feeds_rig.until(lambda: not source.is_away)
                os.write(line, rmc(second)[25:] + rmc(second) + rmc(second + 1))  # we come in the middle of a sentence
                await feeds_rig.until(lambda second=second: len(sink.pings) == second + 1)
            await feeds_rig.until(lambda: source.is_away)
    assert seconds(sink) == [1, 2, 3, 4]
    assert sink.letters == [], "half a sentence at the beginning is no error"
    assert sink.origins == {f"serial:{port}"}


async def test_gpsd_is_watched_again_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receivers, "RETRY_S", 0.05)
    sink, source, at = SinkInMemory(), Source("gpsd"), Address("127.0.0.1", free_port())
    read = by_line(reports.Receiver("boat").read)
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'{"class":"VERSION","release":"3.22","proto_major":3,"proto_minor":14}\r\n')
        asked.append(await reader.readline())
        writer.write(tpv(len(asked)) + tpv(len(asked) + 10))
        await writer.drain()
        writer.close()

    async with feeds_rig.running(receivers.watch_gpsd(at, "/dev/x", read, sink, source, most=100)):  # type: ignore[arg-type]
        await feeds_rig.until(lambda: source.is_away)
        async with await asyncio.start_server(serve, at.host, at.port):
            await feeds_rig.until(lambda: len(sink.pings) >= 4)
    assert seconds(sink)[:4] == [1, 11, 2, 12]
    assert asked[0] == b'?WATCH={"enable":true,"json":true,"device":"/dev/x"}\n'


async def test_what_waits_is_bounded_and_what_is_left_at_the_end_is_lost() -> None:
    sink, source = SinkInMemory(), Source("nmea")
    held = HoldingQueue(source, most=3)
    sink.go_away()
    async with feeds_rig.running(held.send(by_line(nmea.Receiver("van-7").read), sink, "x")):  # type: ignore[arg-type]
        held.put(rmc(0))
        await feeds_rig.until(lambda: sink.refused)
        for second in range(1, 8):
            held.put(rmc(second))
        assert (len(held), source.lost) == (3, 4)
    assert source.lost == 8, "all of them: Kafka never had one"


async def test_a_reader_that_fails_ends_the_listening() -> None:
    def broken(came: ReceivedBytes) -> list[object]:
        raise RuntimeError("our own bug")

    held, ended = HoldingQueue(Source("x"), most=3), asyncio.Event()

    async def listen() -> None:
        held.put(b"x")
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(RuntimeError, match="our own bug"):
        await held.send_what(listen(), broken, SinkInMemory(), "x")  # type: ignore[arg-type]
    assert ended.is_set()
