"""The API and the map on one server: each has its own routes, token and metrics, and they share what bounds clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from api_rig import InMemory, newest_of, questions_of, running
from engine_rig import CHECKPOINT, Rig, steady
from map_rig import OPEN, T0, fleet_of, forecast
from typer.testing import CliRunner

from stream.api import handlers, process
from stream.api.answers.tracks import Tracks
from stream.api.cli import serve
from stream.api.http.server import Server
from stream.api.http.tickets import Tickets
from stream.api.map import handlers as map_handlers
from stream.api.map import service as map_metrics
from stream.api.map.access import MapAccess
from stream.api.map.sources.streets import Streets
from stream.api.metrics import Metrics
from stream.api.options import ServeOptions, ServerOptions
from stream.api.trips.pages import Feeds
from stream.api.trips.table import TripTable
from stream.config.http_access import Address
from stream.http.access import Access

OURS, OF_MAP = "a-token-of-the-api", "a-token-of-the-map"


@asynccontextmanager
async def both(
    rig: Rig, predictor: Any, folder: Path, *, api_token: str | None = None, map_token: str | None = None
) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """Yields the address of a server of both, and a client of it."""

    async def of_api() -> list[str]:
        return ["Redis is away"]

    async def of_map() -> list[str]:
        return ["the topics are not read up to now"]

    newest, tracks = newest_of(rig.out), Tracks(predictor)
    asker = questions_of(InMemory(rig.store), predictor, newest=newest)
    server = Server(ServerOptions(Address("127.0.0.1", 0), OPEN, OPEN))
    gate = server.gate(access=Access(api_token), metrics=Metrics(server.registry), tickets=Tickets())
    server.add(handlers.Handlers(asker, tracks, newest, server, gate, Feeds(TripTable())).pages, of_api)
    access = MapAccess(map_token)
    names = (map_metrics.PREFIX, map_metrics.SIZES, map_metrics.COUNTS)
    gate = server.gate(access=access, metrics=Metrics(server.registry, *names))
    shown = map_handlers.PageSettings("a fleet", "forecasts", 600.0, 300.0, folder)
    fleet = fleet_of(forecast("a", T0))
    server.add(map_handlers.Handlers(shown, fleet, Streets(None, None), server, gate, access).pages, of_map)
    address = await server.start()
    try:
        async with running(asker), aiohttp.ClientSession() as client:
            yield f"http://{address}", client
    finally:
        await server.stop()
        tracks.close()


async def status(client: aiohttp.ClientSession, url: str, token: str | None = None) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with client.get(url, headers=headers) as said:
        return said.status


async def test_one_address_has_the_routes_of_both(rig: Rig, make_predictor: Any, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("the page")
    await rig.feed(*steady("bus-1", 3), CHECKPOINT)
    async with both(rig, make_predictor(), tmp_path) as (base, client):
        for path in ("/", "/map/config", "/map/entities/a", "/v1/entities/bus-1", "/v1/entities", "/openapi.json"):
            assert await status(client, base + path) == 200, path
        assert await status(client, f"{base}/v1/entities/a") == 404, "the map alone has heard of it"
        async with client.get(f"{base}/readyz") as said:
            assert (said.status, (await said.json())["reasons"]) == (
                503,
                ["Redis is away", "the topics are not read up to now"],
            )
        async with client.get(f"{base}/metrics") as said:
            page = await said.text()
    assert page.count("# TYPE process_cpu_seconds_total") == page.count("# TYPE pathcast_ready") == 1
    assert 'pathcast_serve_requests_total{operation="getEntity",status="200"} 1.0' in page
    assert 'pathcast_map_requests_total{operation="entity",status="200"} 1.0' in page


async def test_each_has_a_token_of_its_own(rig: Rig, make_predictor: Any, tmp_path: Path) -> None:
    """And a browser's cookie opens the map alone: a page of somebody else's could have the browser send it."""
    async with both(rig, make_predictor(), tmp_path, api_token=OURS, map_token=OF_MAP) as (base, client):
        for path, right, wrong in (("/v1/entities", OURS, OF_MAP), ("/map/config", OF_MAP, OURS)):
            got = [await status(client, base + path, token) for token in (None, wrong, right)]
            assert got == [401, 401, 200], path
        cookie = {"Cookie": f"pathcast_map={OF_MAP}"}
        async with client.get(f"{base}/map/config", headers=cookie) as said:
            assert said.status == 200
        for path in ("/v1/entities", "/metrics", "/nowhere"):
            async with client.get(base + path, headers={"Cookie": f"pathcast_map={OURS}"}) as said:
                assert said.status == 401, path


@pytest.mark.parametrize(("own", "token"), [({}, OURS), ({"PATHCAST_MAP_TOKEN": OF_MAP}, OF_MAP)])
def test_the_command_reads_the_maps_settings_from_their_variables(
    monkeypatch: pytest.MonkeyPatch, own: dict[str, str], token: str
) -> None:
    """Without a token of its own, the map has that of the API: what the API closes, the map does not open."""
    given: list[ServeOptions] = []

    async def note(how: ServeOptions, stopped_by: object) -> None:
        given.append(how)

    monkeypatch.setattr(process, "serve", note)
    monkeypatch.setattr("stream.api.cli.yield_cores", lambda nice: None)
    env = {"PATHCAST_SERVE_TOKEN": OURS, "PATHCAST_MAP_TITLE": "buses", "PATHCAST_MAP_KEEP": "20m", **own}
    for options in (["--listen", "0", "--map"], ["--listen", "0"]):
        result = CliRunner().invoke(_command(), options, env=env)
        assert result.exit_code == 0, result.output
    shown = given[0].map
    assert shown is not None
    assert (shown.title, shown.keep_s, shown.token, shown.expire_s) == ("buses", 1_200.0, token, 3_600.0)
    assert given[1].map is None
    assert given[0].api == given[1].api


def _command() -> Any:
    import typer

    app = typer.Typer()
    app.command()(serve)
    return app
