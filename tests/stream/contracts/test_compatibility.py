"""A change that would break somebody is found, and no other is."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stream.contracts import files
from stream.contracts.avro_schema import avro_schema
from stream.contracts.catalog import Way, contract
from stream.contracts.cli import app
from stream.contracts.compatibility import avro_breaks, breaks
from stream.contracts.json_schema import dump_schema, json_schema

Schema = dict[str, Any]
FORECAST, PING = json_schema(contract("forecast")), json_schema(contract("ping"))


def changed(schema: Schema, change: Callable[[Schema], object]) -> Schema:
    found = copy.deepcopy(schema)
    change(found)
    return found


def renamed(schema: Schema) -> None:
    properties = schema["$defs"]["Horizon"]["properties"]
    properties["seconds"] = properties.pop("h_s")
    schema["$defs"]["Horizon"]["required"][0] = "seconds"


OUT: dict[str, tuple[Callable[[Schema], object], str]] = {
    "a field is removed": (lambda one: one["properties"].pop("cache"), "cache: it was removed"),
    "a field is renamed": (renamed, "horizons[].h_s: it was removed"),
    "a type changes": (lambda one: one["properties"]["entity_id"].update(type="integer"), "entity_id: its type was"),
    "a type is widened": (lambda one: one["$defs"]["Src"]["properties"]["offset"].update(type="number"), "src.offset"),
    "a new field is required": (
        lambda one: (one["properties"].update(new={"type": "string"}), one["required"].append("new")),
        "new: it is new and required",
    ),
    "a required field becomes optional": (lambda one: one["required"].remove("window"), "window: it was required"),
    "an optional field becomes required": (lambda one: one["required"].append("atlas"), "atlas: it was optional"),
    "a word is added": (lambda one: one["properties"]["status"]["enum"].append("new"), "status: its enum was"),
    "a word is taken away": (lambda one: one["properties"]["status"]["enum"].remove("stale"), "status: its enum was"),
    "an array gets another length": (
        lambda one: one["$defs"]["NextStep"]["properties"]["cov_m2"].update(maxItems=4),
        "next.cov_m2: its maxItems",
    ),
    "null is allowed": (
        lambda one: one["properties"].update(entity_id={"anyOf": [{"type": "string"}, {"type": "null"}]}),
        "entity_id: its type was string and is null or string",
    ),
}


@pytest.mark.parametrize("what", OUT)
def test_a_subscriber_would_break(what: str) -> None:
    change, said = OUT[what]
    found = [str(one) for one in breaks(FORECAST, changed(FORECAST, change), Way.OUT)]
    assert any(said in one for one in found), found


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one["properties"].update(new={"type": "string"}),
        lambda one: one["$defs"]["Horizon"]["properties"].update(new={"type": "array", "items": {"type": "number"}}),
        lambda one: one.update(description="another", title="another"),
        lambda one: one["properties"]["cache"].update(description="another"),
    ],
)
def test_a_subscriber_would_not(change: Callable[[Schema], object]) -> None:
    assert breaks(FORECAST, changed(FORECAST, change), Way.OUT) == []


IN_BREAKS: list[Callable[[Schema], object]] = [
    lambda one: one["properties"].pop("speed_mps"),
    lambda one: one["required"].append("speed_mps"),
    lambda one: one["properties"]["entity_id"].update(maxLength=64),
    lambda one: one["properties"]["ts"].update(type="string"),
    lambda one: one["properties"]["lat"].update(type="integer"),
    lambda one: one["properties"]["entity_id"].update(pattern="^[a-z]+$"),
    lambda one: one["properties"]["entity_id"].update(enum=["a"]),
]
IN_FINE: list[Callable[[Schema], object]] = [
    lambda one: one["properties"].update(new={"type": "string"}),
    lambda one: one["properties"]["entity_id"].update(maxLength=256),
    lambda one: one["properties"]["entity_id"].pop("maxLength"),
    lambda one: one["properties"]["ts"].update(type="number"),
    lambda one: one["required"].remove("ts"),
    lambda one: one["properties"].update(entity_id={"anyOf": [{"type": "string"}, {"type": "integer"}]}),
]


@pytest.mark.parametrize("change", IN_BREAKS)
def test_a_producer_would_break(change: Callable[[Schema], object]) -> None:
    assert breaks(PING, changed(PING, change), Way.IN)


@pytest.mark.parametrize("change", IN_FINE)
def test_a_producer_would_not(change: Callable[[Schema], object]) -> None:
    assert breaks(PING, changed(PING, change), Way.IN) == []


def test_avro_schemas_follow_avros_own_rules() -> None:
    schema = avro_schema(contract("forecast"))
    assert avro_breaks(schema, schema, Way.OUT) == []
    new = {"name": "new", "type": ["null", "string"], "default": None}
    assert avro_breaks(schema, changed(schema, lambda one: one["fields"].append(new)), Way.OUT) == []
    for change in (
        lambda one: one["fields"].pop(0),
        lambda one: one["fields"].append({"name": "new", "type": "string"}),
        lambda one: one["fields"][0].update(type="long"),
    ):
        assert avro_breaks(schema, changed(schema, change), Way.OUT)


@pytest.fixture
def released(tmp_path: Path) -> Path:
    files.write(tmp_path)
    return tmp_path


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    return done.exit_code, done.output or str(done.exception)


def spoil(file: Path, change: Callable[[Schema], object]) -> None:
    """Lets a file be what an earlier release has written."""
    file.write_text(dump_schema(changed(json.loads(file.read_text()), change)))


def test_check_is_content_with_what_the_code_makes(released: Path) -> None:
    assert run("check", "--dir", str(released))[0] == 0
    assert run("write", "--dir", str(released)) == (0, "all are as the code makes them\n")


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("json/forecast.v1.json", lambda one: one["properties"].update(gone={"type": "string"})),
        ("json/forecast.v1.json", lambda one: one["properties"]["entity_id"].update(type="integer")),
        ("json/ping.v1.json", lambda one: one["properties"].update(gone={"type": "string"})),
        ("avro/gapfill.v1.avsc", lambda one: one["fields"].append({"name": "gone", "type": "string"})),
        ("avro/gapfill.v1.avsc", lambda one: one["fields"][0].update(type="long")),
    ],
)
def test_a_field_that_the_code_has_no_more_or_of_another_type_fails_the_check(
    released: Path, file: str, change: Callable[[Schema], object]
) -> None:
    spoil(released / "schemas" / file, change)
    status, said = run("check", "--dir", str(released))
    assert status == 1
    assert f"BREAKS  schemas/{file}" in said
    before = (released / "schemas" / file).read_text()
    status, said = run("write", "--dir", str(released))
    assert status == 1
    assert "nothing was written" in said
    assert (released / "schemas" / file).read_text() == before


def test_a_new_optional_field_is_to_be_written_and_breaks_nobody(released: Path) -> None:
    file = released / "schemas/json/forecast.v1.json"
    spoil(file, lambda one: one["properties"].pop("atlas"))
    status, said = run("check", "--dir", str(released))
    assert status == 1
    assert "BREAKS" not in said
    assert "differs schemas/json/forecast.v1.json" in said
    assert run("write", "--dir", str(released))[0] == 0
    assert run("check", "--dir", str(released))[0] == 0


def test_what_shadows_had_in_0_2_0_may_go(released: Path) -> None:
    spoil(released / "schemas/json/score.v1.json", lambda one: one["properties"].update(shadow={"type": "boolean"}))
    spoil(
        released / "schemas/json/weights_version.v1.json",
        lambda one: one["properties"]["role"]["enum"].append("shadow"),
    )
    assert run("write", "--dir", str(released))[0] == 0
    assert run("check", "--dir", str(released))[0] == 0


def test_a_record_that_is_removed_fails_the_check(released: Path) -> None:
    (released / "schemas/json/retired.v1.json").write_text("{}")
    status, said = run("check", "--dir", str(released))
    assert status == 1
    assert "BREAKS  schemas/json/retired.v1.json: its record was removed" in said


def test_a_released_file_that_was_rewritten_by_hand_is_found_in_git(released: Path) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
        subprocess.run(["git", *who, *arguments], cwd=released, check=True, capture_output=True)

    file = released / "schemas/json/forecast.v1.json"
    good = file.read_text()
    git("init", "-q")
    spoil(file, lambda one: one["properties"].update(gone={"type": "string"}))
    (released / "schemas/json/retired.v1.json").write_text("{}")
    git("add", "-A")
    git("commit", "-qm", "the release")
    file.write_text(good)
    (released / "schemas/json/retired.v1.json").unlink()
    git("add", "-A")
    git("commit", "-qm", "a field is gone, and the file says so, too")
    assert run("check", "--dir", str(released))[0] == 0
    assert run("check", "--dir", str(released), "--against", "HEAD")[0] == 0
    status, said = run("check", "--dir", str(released), "--against", "HEAD^")
    assert status == 1
    assert "forecast.v1.json: gone: it was removed" in said
    assert "retired.v1.json: its record was removed" in said
    assert "no commit" in run("check", "--dir", str(released), "--against", "nothing")[1]


def test_show_prints_a_schema_and_names_those_that_there_are() -> None:
    assert json.loads(run("show", "forecast")[1])["title"] == "Forecast"
    assert json.loads(run("show", "gapfill.v1", "--avro")[1])["name"] == "GapFill"
    assert "pings.v1" in run("show")[1]
    status, said = run("show", "nothing")
    assert status == 1
    assert "expected one of ping, forecast" in said
