"""Tracks that are sent, over real sockets: their gaps filled, their arrivals, and what is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import raw_client
from api_rig import Served, kind
from engine_rig import T0, Rig, gap_fills, steady

from stream.api import messages as m
from stream.api.http import requests
from stream.wire import Ping
from stream.wire.scoring import distance_m

pytestmark = pytest.mark.asyncio(loop_scope="session")  # of the server that they share


def points(pings: list[Ping]) -> list[dict[str, Any]]:
    return [{"ts": one.ts, "lat": one.lat, "lon": one.lon} for one in pings]


HOLED = [*steady("t", 30), *steady("t", 30, start_s=600)]


async def test_a_gap_is_filled_as_a_worker_fills_it(api: Served, make_predictor: Any) -> None:
    due = gap_fills(await Rig(make_predictor).feed(*HOLED))[-1]
    assert due["status"] == "final"
    for shuffled in (points(HOLED), points(HOLED)[::-1]):
        status, said = await api.post("/v1/gapfill", {"points": shuffled})
        assert status == 200
        track = msgspec.convert(said, m.FilledTrack)
        made = [one for one in said["points"] if one["filled"]]
        assert [{**one, "filled": None} for one in made] == [{**one, "filled": None} for one in due["points"]]
        assert [one.ts for one in track.points] == sorted(one.ts for one in track.points)
        assert len(track.points) == len(HOLED) + len(made)
        (gap,) = said["gaps"]
        assert (gap["start_ts"], gap["end_ts"], gap["final"]) == (due["start"]["ts"], due["end"]["ts"], True)
        assert (gap["length_m"], gap["max_sigma_m"]) == (due["length_m"], due["max_sigma_m"])
        assert track.left_out == []


async def test_one_track_leaves_nothing_behind_for_the_next(api: Served) -> None:
    first = await api.post("/v1/gapfill", {"points": points(HOLED)})
    await api.post("/v1/gapfill", {"points": points(steady("t", 50, start_s=5_000))})
    assert await api.post("/v1/gapfill", {"points": points(HOLED)}) == first


async def test_a_geojson_track_comes_back_as_one(api: Served) -> None:
    places = [[one.lon, one.lat, 12.5] for one in HOLED]
    feature = {
        "type": "Feature",
        "id": 7,
        "geometry": {"type": "LineString", "coordinates": places},
        "properties": {"times": [one.ts for one in HOLED], "name": "mine"},
    }
    headers = {"Content-Type": "application/geo+json"}
    async with api.client.post(f"{api.base}/v1/gapfill", data=json.dumps(feature), headers=headers) as said:
        assert (said.status, said.content_type) == (200, "application/geo+json")
        filled = msgspec.convert(await said.json(content_type=None), m.FilledFeature)
    _, plain = await api.post("/v1/gapfill", {"points": points(HOLED)})
    assert [[lon, lat] for lon, lat in filled.geometry.coordinates] == [
        [one["lon"], one["lat"]] for one in plain["points"]
    ]
    assert filled.properties.times == [one["ts"] for one in plain["points"]]
    assert filled.properties.filled == [one["filled"] for one in plain["points"]]
    del feature["properties"]["times"][0]  # type: ignore[index]
    async with api.client.post(f"{api.base}/v1/gapfill", data=json.dumps(feature), headers=headers) as said:
        assert (said.status, kind(await said.json(content_type=None))) == (400, "bad_body")


async def test_points_that_are_no_pings_are_named(api: Served) -> None:
    some = points(steady("t", 20))
    some[3] = {"ts": "2023-11-14T22:13:50Z", "lat": 0, "lon": 0}
    some[5]["lat"] += 5.0  # 550 km away
    some.append(dict(some[7]))
    some.append({"ts": "yesterday", "lat": 1, "lon": 1})
    status, said = await api.post("/v1/gapfill", {"points": some})
    assert status == 200
    left = [(one["index"], one["code"]) for one in said["left_out"]]
    assert left == [(3, "null_island"), (5, "impossible_jump"), (20, "duplicate"), (21, "bad_timestamp")]
    status, said = await api.post("/v1/gapfill", {"points": [{"ts": T0, "lat": 0, "lon": 0}]})
    assert (status, kind(said)) == (422, "unusable_track")


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/v1/gapfill", {}, None),
        ("/v1/gapfill", {"points": []}, "length >= 1"),
        ("/v1/gapfill", {"points": [{"ts": T0, "lat": 91, "lon": 0}]}, "<= 90"),
        ("/v1/gapfill", {"points": [{"ts": T0, "lat": "1", "lon": 0}]}, "float"),
        ("/v1/gapfill", {"points": [{"ts": T0, "lon": 0}]}, None),
        ("/v1/gapfill", {"point": []}, None),
        ("/v1/gapfill", {"points": [{"ts": T0, "lat": 1, "lon": 1}] * 2_001}, "length <= 2000"),
        ("/v1/gapfill", [], "object"),
        ("/v1/eta", {"destination": {"lat": 1, "lon": 1}}, "either entity_id or points"),
        ("/v1/eta", {"destination": {"lat": 1}, "entity_id": "bus-1"}, None),
        ("/v1/eta", {"destination": {"lat": 1, "lon": 1}, "entity_id": 7}, "str"),
    ],
)  # fmt: skip
async def test_a_body_that_does_not_fit_is_refused_with_the_place(
    api: Served, path: str, body: Any, expected: str
) -> None:
    status, said = await api.post(path, body)
    assert (status, kind(said)) == (400, "bad_body")
    assert expected is None or expected in said["expected"], said


async def test_bodies_of_other_types_and_sizes_are_refused(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async with api.client.post(f"{api.base}/v1/gapfill", data=b"{}", headers={"Content-Type": "text/xml"}) as said:
        assert (said.status, kind(await said.json(content_type=None))) == (415, "wrong_type")
    json_ = {"Content-Type": "application/json"}
    for bad in (b"", b"{", b'{"points":"\xff"}', b"[" * 100_000):
        async with api.client.post(f"{api.base}/v1/gapfill", data=bad, headers=json_) as said:
            assert (said.status, kind(await said.json(content_type=None))) == (400, "bad_body")
    large = b'{"points":[' + b" " * requests.MAX_BODY_BYTES + b"]}"
    async with api.client.post(f"{api.base}/v1/gapfill", data=large, headers=json_) as said:
        assert said.status == 413

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * (requests.MAX_BODY_BYTES // 20)

    async with api.client.post(f"{api.base}/v1/gapfill", data=chunks(), headers=json_) as said:
        assert said.status == 413
    monkeypatch.setattr(requests, "BODY_S", 0.05)
    reader, writer = await raw_client.connect(api.base)
    writer.write(
        b"POST /v1/gapfill HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{"
    )
    assert b" 408 " in await reader.readline()
    writer.close()


async def test_an_arrival_has_an_interval_and_a_track_is_as_good_as_its_entity(api: Served) -> None:
    place = {"lat": 30.05, "lon": -97.0}
    status, said = await api.post("/v1/eta", {"entity_id": "bus-1", "destination": place})
    assert status == 200
    eta = msgspec.convert(said, m.Eta)
    assert 0 < eta.travel_low_s < eta.travel_s < eta.travel_high_s
    assert eta.arrives_ts == eta.anchor.ts + round(1000 * eta.travel_s)
    assert eta.distance_m == round(distance_m(eta.anchor.lat, eta.anchor.lon, 30.05, -97.0), 2)
    assert eta.state is not None
    _, same = await api.post("/v1/eta", {"points": points(steady("x", 30)), "destination": place})
    for name in ("entity_id", "state"):
        del said[name]
    assert same == said
    _, wide = await api.post("/v1/eta", {"entity_id": "bus-1", "destination": place, "radius_m": 1_000})
    assert wide["travel_s"] < eta.travel_s
    here = {"lat": eta.anchor.lat, "lon": eta.anchor.lon}
    _, there = await api.post("/v1/eta", {"entity_id": "bus-1", "destination": here})
    assert (there["travel_s"], there["travel_high_s"], there["arrives_ts"]) == (0, 0, eta.anchor.ts)
    status, said = await api.post("/v1/eta", {"entity_id": "nobody", "destination": place})
    assert (status, kind(said)) == (404, "unknown_entity")
