"""Where parts listen: defaults, and what is told of ports that are taken or named twice."""

from __future__ import annotations

import asyncio
import io
import re
import socket
from pathlib import Path

import pytest
import typer
from rich.console import Console

from stream.config.home import Home
from stream.config.http_access import Address
from stream.up import ports
from stream.up.embedded import free_port
from stream.up.parts import Part, join_services, table
from stream.up.run import Supervisor, UpOptions
from stream.up.screen import Screen


def parts(metrics: str = "", serve: str = "0", ingest: str = "0", workers: int = 2) -> list[Part]:
    at = ports.requested_addresses(metrics, serve, ingest, "0", workers)
    maps = ports.find_maps(["flespi"])
    every = table(Home(Path("/srv")), workers, at, maps=maps, history="topic", finds_drift=True)
    return join_services(every, at.metrics, workers)


def test_all_is_on_loopback_unless_it_is_told_otherwise() -> None:
    at = ports.requested_addresses("9464", None, "8080", "8765", 2)
    assert [str(one) for one in at] == ["127.0.0.1:9464", "127.0.0.1:9480", "127.0.0.1:8080", "127.0.0.1:8765"]
    assert str(ports.requested_addresses("", "[::]:80", "8080", "8765", 2).serve) == "[::]:80"


@pytest.mark.parametrize(
    ("given", "without", "at"),
    [
        (None, (), None),
        ("9999", (), "127.0.0.1:9999"),
        (None, ("serve",), "127.0.0.1:8765"),
        ("9999", ("serve",), "127.0.0.1:9999"),
    ],
)
def test_the_map_is_at_the_address_of_the_api_unless_it_has_one_of_its_own_or_there_is_no_api(
    given: str | None, without: tuple[str, ...], at: str | None
) -> None:
    found = ports.requested_addresses("9464", None, "8080", given, 2, without=without).map
    assert (None if found is None else str(found)) == at


@pytest.mark.parametrize(("workers", "port"), [(15, 9480), (16, 9481), (31, 9496)])
def test_the_metrics_of_many_workers_do_not_take_the_port_of_the_api(workers: int, port: int) -> None:
    """9464 is that of the first of them, and `beside` has one, too: on 32 cores they reach beyond 9480."""
    at = ports.requested_addresses("9464", None, "8080", "8765", workers)
    assert at.serve.port == port
    assert ports.requested_addresses("", None, "8080", "8765", workers).serve.port == 9480


def test_a_port_that_two_options_name_is_told_with_both_names() -> None:
    one = free_port()
    with pytest.raises(ValueError, match=f"--ingest and --serve both have port {one}: give one of them another"):
        ports.check(parts(serve=str(one), ingest=str(one)))
    with pytest.raises(ValueError, match="--serve and --metrics both have port"):
        ports.check(parts(metrics=str(one), serve=str(one + 1)))


def test_a_port_that_something_else_has_is_told_with_the_option_and_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        said = f"cannot run serve (--serve, or --without serve) at 127.0.0.1:{taken}"
        with pytest.raises(OSError, match=re.escape(said)):
            ports.check(parts(serve=str(taken)))
        with pytest.raises(OSError, match=re.escape(f"cannot serve metrics at 127.0.0.1:{taken}")):
            ports.check(parts(metrics=str(taken), workers=1))
        ports.check([part for part in parts(serve=str(taken)) if part.kind != "serve"])


def test_any_free_port_becomes_one_that_stays_over_restarts() -> None:
    found = parts()
    listening = [part.listens for part in found if part.listens is not None]
    assert len({address.port for address in listening}) == 3
    assert all(address.port for address in listening)
    ports.check(found)


def test_senders_must_say_who_they_are_on_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATHCAST_INGEST_TOKEN", raising=False)
    ports.check_senders(Address("127.0.0.1", 8080), ["flespi"])
    with pytest.raises(typer.BadParameter, match="set PATHCAST_INGEST_TOKEN"):
        ports.check_senders(Address("10.0.0.1", 8080), ["flespi"])
    monkeypatch.setenv("PATHCAST_INGEST_TOKEN", "a-token-of-16-or-more")
    ports.check_senders(Address("10.0.0.1", 8080), ["flespi"])


def test_without_maps_all_presets_are_taken() -> None:
    assert {"/webhook/flespi", "/webhook/owntracks", "/webhook/traccar"} <= ports.find_maps(None).keys()
    assert ports.find_maps(["samsara"]) == {"/webhook/samsara": "samsara"}


async def test_a_part_is_said_to_listen_once_it_does(tmp_path: Path) -> None:
    """The API compiles for half a minute first, and who came at once was refused."""
    said, at = io.StringIO(), Address("127.0.0.1", free_port())
    api = Part("serve", "serve", ("serve",), listens=at, paths=("/openapi.json",))
    supervisor = Supervisor(UpOptions(Home(tmp_path), [api], "pathcast"), Screen(Console(file=said)), -1)
    supervisor.announce_addresses()
    await asyncio.sleep(2 * ports.LOOK_S)
    assert not said.getvalue()
    async with await asyncio.start_server(lambda _, writer: writer.close(), at.host, at.port):
        await asyncio.wait(supervisor._announcing, timeout=10)
    assert said.getvalue() == f"serve | listens at http://{at}: /openapi.json\n"
    await supervisor.stop()
