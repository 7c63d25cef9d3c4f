"""`--basemap`: what it takes, what it refuses and why, and whom the page may then ask for tiles."""

from __future__ import annotations

import gzip
import json
import re
import struct
from pathlib import Path

import pytest
import typer
from map_rig import fleet_of, served
from typer.testing import CliRunner

from stream.api.map.sources.basemap import Basemap, parse_basemap
from stream.commands.main import build

OSM = "https://tile.openstreetmap.org/{z}/{x}/{y}.png"


def pmtiles(metadata: bytes, *, version: int = 3, compressions: bytes = b"\x01\x02", kind: int = 1) -> bytes:
    """A header and metadata; tiles are for the browser."""
    header = bytearray(127)
    header[:8] = b"PMTiles" + bytes([version])
    struct.pack_into("<2Q", header, 24, 127, len(metadata))
    header[97:100] = compressions + bytes([kind])
    return bytes(header) + metadata


def layers(*names: str) -> bytes:
    return json.dumps({"vector_layers": [{"id": name} for name in names]}).encode()


def test_an_address_tells_who_sees_what_and_whom_to_credit() -> None:
    assert parse_basemap(OSM) == Basemap(
        address=OSM,
        origin="https://tile.openstreetmap.org",
        host="tile.openstreetmap.org",
        credit="© OpenStreetMap contributors",
    )
    own = parse_basemap("http://10.0.0.7:8080/{z}/{x}/{y}@2x.webp?key=k#© Us & OpenStreetMap")
    assert (own.origin, own.host) == ("http://10.0.0.7:8080", "10.0.0.7:8080")
    assert own.address == "http://10.0.0.7:8080/{z}/{x}/{y}@2x.webp?key=k", "a credit is not asked for"
    assert own.credit == "© Us & OpenStreetMap"
    assert parse_basemap("https://notopenstreetmap.org/{z}/{x}/{y}.png").credit == "Tiles: notopenstreetmap.org"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ftp://host/{z}/{x}/{y}.png", "neither https:// nor http://"),
        ("https://host/style.json", "a style cannot be used"),
        ("https://host/tiles", "a style cannot be used"),
        ("https://host/{z}/{x}.png", "lacks {y}"),
        ("https://{s}.host/{z}/{x}/{y}.png", "no host"),
        ("https://host/{z}/{x}/{y}{r}.png", "has {r}, which the page does not fill in"),
        ("https://host/{z}/{x}/{y}.mvt?key=k", "has vector tiles"),
        ("https://build.protomaps.com/20261201.pmtiles", "download it"),
        ("https://me:secret@host/{z}/{x}/{y}.png", "a user or a password"),
        ("https://host; script-src */{z}/{x}/{y}.png", "no host"),
        ("https://host'/{z}/{x}/{y}.png", "no host"),
        ("https://[::1]/{z}/{x}/{y}.png", "no host"),
        ("https://host:port/{z}/{x}/{y}.png", "is no address"),
        ("https:///{z}/{x}/{y}.png", "no host"),
    ],
)
def test_an_address_that_the_page_cannot_use_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)) as refused:
        parse_basemap(text)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "is no PMTiles file"),
        (b"SQLite format 3\x00" * 100, "is no PMTiles file"),
        (pmtiles(layers("earth"), version=2), "version 2"),
        (pmtiles(layers("earth"), compressions=b"\x03\x03"), "browsers do not read"),
        (pmtiles(layers("earth"), kind=0), "browsers do not read"),
        (pmtiles(layers("earth"))[:-1], "downloaded whole"),
        (pmtiles(layers("transportation", "water_name")), "its own are transportation, water_name"),
        (pmtiles(b"{}"), "its own are none"),
        (pmtiles(b"[]"), "is damaged"),
        (pmtiles(layers("earth"), compressions=b"\x02\x02"), "is damaged"),
        (pmtiles(gzip.compress(layers("earth"))[:-9], compressions=b"\x02\x02"), "is damaged"),
    ],
)
def test_a_file_of_which_nothing_could_be_drawn_is_refused(tmp_path: Path, raw: bytes, why: str) -> None:
    file = tmp_path / "region.pmtiles"
    file.write_bytes(raw)
    with pytest.raises(ValueError, match=re.escape(why)) as refused:
        parse_basemap(str(file))
    assert str(file) in str(refused.value)


def test_a_file_is_taken_for_its_layers_or_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, raw in enumerate(
        (
            pmtiles(layers("water", "pois")),
            pmtiles(gzip.compress(layers("earth")), compressions=b"\x02\x02"),
            pmtiles(b"{}", kind=2),
        )
    ):
        Path(f"{number}.pmtiles").write_bytes(raw)
        assert parse_basemap(f"{number}.pmtiles") == Basemap(file=tmp_path / f"{number}.pmtiles")


@pytest.mark.parametrize("command", [["map"], ["serve", "--map"], ["up"]])
def test_each_command_that_shows_the_map_refuses_it_at_the_start(command: list[str], tmp_path: Path) -> None:
    app, env = build(), {"PATHCAST_DIR": str(tmp_path / "data"), "COLUMNS": "200"}
    for options, more in ([["--basemap", "no.pmtiles"], {}], [[], {"PATHCAST_MAP_BASEMAP": "https://host/style.json"}]):
        result = CliRunner().invoke(app, [*command, *options], env={**env, **more})
        assert result.exit_code == 2, result.output
        assert "--basemap" in result.output
        assert ("no.pmtiles cannot be read" in result.output) != ("a style cannot be used" in result.output)
    assert not (tmp_path / "data").exists()
    assert {"--basemap"} <= {one for option in _options(app, command[0]) for one in option}


def _options(app: typer.Typer, name: str) -> list[list[str]]:
    return [one.opts for one in typer.main.get_command(app).commands[name].params]  # type: ignore[attr-defined]


def test_serve_without_the_map_has_no_use_for_it() -> None:
    result = CliRunner().invoke(build(), ["serve", "--basemap", OSM], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "give --map" in result.output


async def test_the_page_may_ask_the_host_of_the_tiles_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!doctype html><title>a map</title>")
    policies = {}
    for basemap in (None, parse_basemap(f"{OSM}?key=k")):
        async with served(fleet_of(), tmp_path, basemap=basemap) as shown, shown.client.get(f"{shown.base}/") as said:
            policies[basemap] = dict(
                one.partition(" ")[::2] for one in said.headers["Content-Security-Policy"].split("; ")
            )
            config = (await shown.get("/map/config"))[1]
            assert (await shown.get("/basemap.pmtiles"))[0] == 404
    own, with_tiles = policies.values()
    assert own["connect-src"] == "'self'"
    assert with_tiles == {**own, "connect-src": "'self' https://tile.openstreetmap.org"}
    host, credit = "tile.openstreetmap.org", "© OpenStreetMap contributors"
    assert config["tiles"] == {"url": f"{OSM}?key=k", "host": host, "credit": credit}
    assert config["basemap"] is False
