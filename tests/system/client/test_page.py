"""The commands and programs of stream/client/README.md beside its recipes, each run as it stands there.

Only addresses are others, of a broker, a Redis and a PostgreSQL of the test, and the topics' prefix. What a block needs
that this machine has not, such as `psql`, skips its test.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import bus_feed
import postgres_server
import pytest
from client_rig import forecast, gap_fill
from kafka import KafkaProducer
from missing_servers import skip_unless_required
from pathcast_process import environment

import stream.client
from stream.wire import Ping, Topics, dumps

README = Path(stream.client.__file__).with_name("README.md")
PREFIX = f"page{os.getpid()}"  # other tests may have topics of the page's own
BUSES, STEPS = 3, 4
PATIENCE_S = 120.0
# `pathcast` is the installed command; here it is this tree's.
SHELL = """
set -euo pipefail
pathcast() {{ {python} -c 'from stream.commands.main import main; main()' "$@"; }}
"""


@pytest.fixture(scope="module")
def kafka_of_page(kafka: str) -> str:
    """Forecasts and a gap fill in the topics that the page names, published now."""
    topics = Topics.of(PREFIX)
    bus_feed.create_topics(kafka, topics, partitions=2)
    producer = KafkaProducer(bootstrap_servers=kafka)
    for bus in range(BUSES):
        for step in range(STEPS):
            one = forecast(f"bus-{bus}", step, lat=30.28 + bus / 1_000, lon=-97.74)
            producer.send(topics.forecasts, dumps(one), key=one.entity_id.encode())
    producer.send(topics.gapfills, dumps(gap_fill()), key=b"bus-1")
    producer.flush()
    producer.close()
    return kafka


def blocks(section: str, language: str, level: str = "###") -> list[str]:
    found = re.search(rf"^{level} {section}\n(.*?)(?=^##)", README.read_text() + "\n##", re.MULTILINE | re.DOTALL)
    assert found is not None, section
    made = re.findall(rf"^```{language}\n(.*?)^```$", found[1], re.MULTILINE | re.DOTALL)
    assert made, f"no {language} in {section}"
    return list(made)


def lines_of(block: str) -> list[str]:
    """The commands of a block, a line each."""
    return [line for line in block.splitlines() if line.strip()]


def run(command: str, folder: Path, **env: str) -> str:
    """Runs a line of the page in bash, and returns what it writes."""
    script = SHELL.format(python=sys.executable) + command + "\n"
    told = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment(**env),
        check=False,
    )
    assert told.returncode == 0, f"{command}: {told.stderr[-2_000:]}"
    return told.stdout


def needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            skip_unless_required(f"no {program} on PATH")


def test_tables_and_maps(kafka_of_page: str, tmp_path: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    (program,) = blocks("Tables and maps", "python")
    (tmp_path / "tables.py").write_text(program.replace('"localhost:9092"', f'"{kafka_of_page}", prefix="{PREFIX}"'))
    told = subprocess.run(
        [sys.executable, "tables.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment(),
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert re.search(r"^300\.0 +3000\.0$", told.stdout, re.MULTILINE), told.stdout
    regions = geopandas.read_file(tmp_path / "regions.gpkg")
    assert len(regions) == BUSES * STEPS * 3
    assert regions.geometry.is_valid.all()


def test_redis(kafka_of_page: str, redis_url: str, tmp_path: Path) -> None:
    """The database is another one; so the second line gets its number and port."""
    needs("redis-cli")
    (block,) = blocks("Redis", "sh")
    fill, ask = lines_of(block)
    assert fill.startswith("pathcast export redis --redis redis://localhost:6379/1")
    fill = fill.replace("redis://localhost:6379/1", redis_url) + " --once"
    run(fill, tmp_path, PATHCAST_BOOTSTRAP=kafka_of_page, PATHCAST_PREFIX=PREFIX)
    found = re.fullmatch(r"redis://([^:/]+):(\d+)/(\d+)", redis_url)
    assert found is not None
    told = run(ask.replace("redis-cli -n 1", f"redis-cli -h {found[1]} -p {found[2]} -n {found[3]}"), tmp_path)
    assert sorted(re.findall(r"bus-\d", told)) == [f"bus-{bus}" for bus in range(BUSES)]
    run("redis-cli -h {} -p {} -n {} FLUSHDB".format(*found.groups()), tmp_path)


def test_postgis(kafka_of_page: str, tmp_path: Path, say: Callable[[str], None]) -> None:
    needs("psql")
    (block,) = blocks("PostGIS", "sh")
    fill, ask = lines_of(block)
    try:
        with postgres_server.running(say) as url:
            assert "postgresql://pathcast@localhost/fleet" in fill
            fill = fill.replace("PGPASSWORD=... ", "").replace("postgresql://pathcast@localhost/fleet", url)
            run(f"{fill} --once", tmp_path, PATHCAST_BOOTSTRAP=kafka_of_page, PATHCAST_PREFIX=PREFIX)
            told = run(ask.replace("psql fleet", f"psql {url}"), tmp_path)
    except postgres_server.Unavailable as reason:
        skip_unless_required(reason)
    assert sorted(re.findall(r"(bus-\d) *\| POINT\(", told)) == [f"bus-{bus}" for bus in range(BUSES)]


def test_files(kafka_of_page: str, tmp_path: Path) -> None:
    (block,) = blocks("Files", "sh", level="##")
    (tmp_path / "forecasts.ndjson").write_bytes(b"".join(dumps(forecast("a", step)) + b"\n" for step in range(3)))
    pings = [Ping(entity_id="van", ts=1_700_000_000_000 + 1_000 * n, lat=1.0, lon=2.0 + n / 100) for n in range(3)]
    (tmp_path / "pings.ndjson").write_bytes(b"".join(dumps(one) + b"\n" for one in pings))
    from_topics, from_file, rows = lines_of(block)
    run(from_topics, tmp_path, PATHCAST_BOOTSTRAP=kafka_of_page, PATHCAST_PREFIX=PREFIX)
    kinds = [one["properties"]["kind"] for one in json.loads((tmp_path / "fleet.geojson").read_bytes())["features"]]
    assert (kinds.count("forecast"), kinds.count("gap_fill")) == (BUSES, 1)
    run(from_file, tmp_path)
    moving = json.loads((tmp_path / "moving.json").read_bytes())["features"]
    assert [one["properties"]["kind"] for one in moving] == ["track", "forecast"]
    assert run(rows, tmp_path).count("track,van,") == len(pings)


def test_every_block_of_these_sections_has_a_test() -> None:
    """So that a block that is added is run, too. The recipes are those of `test_recipes`."""
    text = README.read_text()
    below = text[text.index("### Tables and maps") :]
    sections = re.split(r"^#{2,3} ", below, flags=re.MULTILINE)[1:]
    names = {section.partition("\n")[0]: len(re.findall(r"^```\w", section, re.MULTILINE)) for section in sections}
    assert {name: count for name, count in names.items() if count} == {
        "Tables and maps": 1,
        "Redis": 1,
        "PostGIS": 1,
        "Files": 1,
    }
