"""Commands in other terminals work with the servers and folders of a `pathcast up`, and never with those of another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import typer

from stream.commands.main import build
from stream.config.environment import fill_in
from stream.config.home import Home, lock_home, note_servers

ROOT: Any = typer.main.get_command(build())
EMBEDDED = {"PATHCAST_BOOTSTRAP": "127.0.0.1:10345", "PATHCAST_REDIS": "redis://127.0.0.1:10346/0"}
PARTS = {**EMBEDDED, "PATHCAST_PREFIX": "buses", "PATHCAST_GROUP": "buses", "PATHCAST_KAFKA_PASSWORD": "hush"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """One in which nothing runs; its servers end with their `up`."""
    found = Home(tmp_path / "data")
    found.make("buses.pings.v1")
    with lock_home(found):
        note_servers(found, PARTS, list(EMBEDDED))
    return found


def filled(home: Home, line: str, **environment: str) -> dict[str, str]:
    """What a command finds in its environment besides what it was given."""
    given = {"PATHCAST_DIR": str(home.root), **environment}
    found = dict(given)
    fill_in(ROOT, line.split(), found)
    assert found.items() >= given.items(), "what was given stays"
    return {name.removeprefix("PATHCAST_"): value for name, value in found.items() if name not in given}


def test_each_command_finds_what_it_reads(home: Home) -> None:
    with lock_home(home):
        note_servers(home, PARTS, list(EMBEDDED))
        kafka = {"BOOTSTRAP": "127.0.0.1:10345", "PREFIX": "buses"}
        assert filled(home, "tail forecasts --from earliest") == kafka
        assert filled(home, "feed fleet.csv --speedup 0").items() >= kafka.items()
        assert filled(home, "models list") == {"REGISTRY": str(home.registry)}
        assert filled(home, "models atlas") == {"ATLASES": str(home.atlases)}
        redis = {"REDIS": "redis://127.0.0.1:10346/0", "GROUP": "buses"}
        assert filled(home, "forget 5004") == {**kafka, **redis}, "no archive has landed anything"
        (home.archive_of("buses.pings.v1") / "archive.json").write_text("{}")
        assert filled(home, "forget 5004")["ARCHIVE"] == str(home.archive)
        assert filled(home, "dev archive --days") == {"ARCHIVE": str(home.archive)}


@pytest.mark.parametrize("words", ["--bootstrap kafka:9092", "--bootstrap=kafka:9092"])
def test_a_kafka_that_is_given_is_another_fleets(home: Home, words: str) -> None:
    with lock_home(home):
        note_servers(home, PARTS, list(EMBEDDED))
        assert filled(home, f"doctor {words}") == {}
        assert filled(home, "models list", PATHCAST_BOOTSTRAP="kafka:9092") == {}
        assert filled(home, "models list", PATHCAST_BOOTSTRAP="localhost:10345") == {"REGISTRY": str(home.registry)}


def test_what_is_given_stays_and_the_rest_is_found(home: Home) -> None:
    with lock_home(home):
        note_servers(home, PARTS, list(EMBEDDED))
        assert "REGISTRY" not in filled(home, "models list --registry /srv/other")
        assert filled(home, "tail forecasts", PATHCAST_PREFIX="trams") == {"BOOTSTRAP": "127.0.0.1:10345"}


def test_a_server_that_has_ended_is_an_error_and_folders_are_there_still(home: Home) -> None:
    with lock_home(home):
        note_servers(home, PARTS, list(EMBEDDED))
    with pytest.raises(RuntimeError, match=r"has ended, and with it the server at 127\.0\.0\.1:10345: .* --bootstrap"):
        filled(home, "tail forecasts")
    assert filled(home, "tail --help") == {}
    assert filled(home, "tail forecasts --bootstrap 127.0.0.1:10345") == {"PREFIX": "buses"}
    assert filled(home, "models list") == {"REGISTRY": str(home.registry)}


def test_servers_of_the_users_own_outlive_it(home: Home) -> None:
    with lock_home(home):
        note_servers(home, {**PARTS, "PATHCAST_BOOTSTRAP": "kafka:9092"}, ["PATHCAST_REDIS"])
    assert filled(home, "tail forecasts") == {"BOOTSTRAP": "kafka:9092", "PREFIX": "buses"}
    with pytest.raises(RuntimeError, match=r"the server at redis://127\.0\.0\.1:10346/0"):
        filled(home, "doctor")


def test_while_another_one_starts_nothing_is_known(home: Home) -> None:
    with lock_home(home):
        assert filled(home, "tail forecasts") == {}


def test_no_password_is_in_the_file_and_nobody_else_reads_it(home: Home) -> None:
    with lock_home(home):
        note_servers(home, {**PARTS, "PATHCAST_REDIS": "rediss://me:hush@redis:6379/1"}, [])
    assert "hush" not in home.servers_file.read_text()
    assert home.servers_file.stat().st_mode & 0o077 == 0
    assert filled(home, "doctor")["REDIS"] == "rediss://me@redis:6379/1"


def test_a_file_of_somebody_else_is_not_believed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with lock_home(home):
        monkeypatch.setattr(os, "getuid", lambda: 12345)
        assert filled(home, "models list") == {}


def test_a_damaged_file_is_told(home: Home) -> None:
    home.servers_file.write_text('{"variables": 5}')
    with pytest.raises(ValueError, match=r"servers.json is damaged"):
        filled(home, "models list")


def test_the_usual_directory_is_looked_at_where_none_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home.root.parent)
    home.root.rename("pathcast-data")
    found: dict[str, str] = {}
    fill_in(ROOT, ["models", "list"], found)
    assert found == {"PATHCAST_REGISTRY": str(home.root.parent / "pathcast-data" / "registry")}
