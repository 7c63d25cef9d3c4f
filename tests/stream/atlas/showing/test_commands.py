"""The commands that show atlases, and `pathcast train atlas` of a version that cannot be examined."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from model.atlas.believing import UNFITTED
from model.atlas.published import Published
from model.atlas.version import dumps
from stream.atlas.showing.reading import read
from stream.commands.main import build

SPAN = {"pings": 1_200, "entities": 1, "from_ms": 1_700_000_000_000, "to_ms": 1_700_003_600_000}
CARD = [
    {"after_s": 60.0, "mean_m": 131.4, "of_model": 0.75, "held": 0.912},
    {"after_s": 900.0, "mean_m": 1_248.0, "of_model": 1.0, "held": 0.895},
]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(build(), arguments)


def written(folder: Path, **report: Any) -> Path:
    """The file of an atlas with a report card, and no passages."""
    path = folder / "one.atlas"
    path.write_bytes(dumps(Published.none(), UNFITTED, {**SPAN, "report": report}))
    return path


def test_a_directory_without_versions_is_named_to_people_and_a_program_reads_json(tmp_path: Path) -> None:
    """It said nothing at all."""
    told = run("models", "atlas", "--atlases", str(tmp_path))
    assert (told.exit_code, told.stdout) == (0, "")
    assert told.stderr == f"no atlases in {tmp_path}: `pathcast beside atlas` writes a version there every hour\n"
    told = run("models", "atlas", "--atlases", str(tmp_path), "--json")
    assert (told.stdout, told.stderr) == ("[]\n", "")


def test_a_version_of_an_older_layout_is_listed_with_its_reason_and_refused_by_name(tmp_path: Path) -> None:
    old = bytearray(written(tmp_path).read_bytes())
    old[4] = 2
    path = tmp_path / "two.atlas"
    path.write_bytes(old)
    good, bad = run("models", "atlas", "--atlases", str(tmp_path)).stdout.splitlines()
    assert good == "one  1,200 pings of 1 entity, 2023-11-14 22:13 to 2023-11-14 23:13 UTC, 0 passages, 0.0 MB"
    assert bad.startswith(f"two  damaged: {path}: an atlas of layout 2, which has sums and no passages: build it anew")
    with pytest.raises(ValueError, match=r"two\.atlas: an atlas of layout 2"):
        read(path)


def test_an_export_into_a_folder_that_is_not_there_is_bad_usage(tmp_path: Path) -> None:
    """It named a temporary file of its own: No such file or directory: '/nowhere/.map.geojson-hu8qai2r'."""
    (tmp_path / "any.atlas").touch()
    told = run("export", "atlas", str(tmp_path / "any.atlas"), "--out", str(tmp_path / "nowhere" / "map.geojson"))
    assert told.exit_code == 2
    assert "no such directory" in told.stderr


def test_the_report_card_of_an_atlas_is_shown(tmp_path: Path) -> None:
    lines = run("models", "atlas", str(written(tmp_path, questions=512, horizons=CARD))).stdout.splitlines()
    assert lines[2:] == [
        "examined by 512 questions:",
        "  after 60 s: 131 m off, 25.0 % nearer than the model alone; regions hold 91.2 %",
        "  after 900 s: 1,248 m off, no nearer than the model alone; regions hold 89.5 %",
    ]


def test_what_is_built_is_shown_drawn_and_says_that_it_was_not_examined(tmp_path: Path) -> None:
    """40 vehicles pass the same places; of each place and direction, two at most are wanted."""
    rows = ["entity_id,t,lat,lon"]
    for second in range(0, 1_800, 30):
        rows += [f"van-{n},{1_700_000_000_000 + 1000 * second},{30 + 1e-4 * second},-97.7" for n in range(40)]
    data, out = tmp_path / "pings.csv", tmp_path / "fleet.atlas"
    data.write_text("\n".join(rows) + "\n")
    summary = json.loads(
        run("train", "atlas", f"--data={data}", f"--out={out}", "--json", "--passages-per-cell=2").stdout
    )
    passages = read(out).passages
    assert np.diff(passages.stop, prepend=0).max() == 2
    sizes = {"passages": len(passages.known), "buckets": len(passages.bucket), "bytes": out.stat().st_size}
    assert {name: summary[name] for name in sizes} == sizes
    told = run("models", "atlas", str(out))
    assert told.stdout.splitlines()[2].startswith("not examined: "), told.stdout
    assert f"{sizes['passages']:,} passages in {sizes['buckets']:,} buckets" in told.stdout
    assert json.loads(run("models", "atlas", str(out), "--json").stdout)["contains"]["report"] == summary["report"]
    told = run("export", "atlas", str(out), f"--out={tmp_path / 'map.geojson'}", "--horizon-s=60", "--least=2")
    drawn = json.loads((tmp_path / "map.geojson").read_text())["features"]
    assert told.stdout.startswith(f"{len(drawn)} arrows in ")
    assert {one["properties"]["n"] for one in drawn} == {2}
    assert run("models", "atlas", str(out), str(out)).stdout.startswith(
        f"0 buckets gained, 0 lost, {sizes['buckets']:,} kept"
    )
    assert run("models", "atlas", str(out), str(out), "--horizon-s=61").exit_code == 2
