"""Which parts run: that this version has their commands, what each needs, and what they are told how."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import typer
from pathcast_process import environment as plain_environment
from typer.testing import CliRunner

from stream.commands.main import build
from stream.config.home import Home
from stream.config.http_access import Address
from stream.config.security import PLAIN_REDIS, KafkaSecurity, Mechanism, Protocol
from stream.up.cli import up
from stream.up.parts import (
    KINDS,
    Addresses,
    Part,
    addresses_from,
    atlas_options,
    choose,
    environment,
    history_of,
    join_services,
    table,
)

ROOT: Any = typer.main.get_command(build())
FIRST = Address("127.0.0.1", 9464)  # of the metrics
HOME = Home(Path("/srv/pathcast"))


API, HOOKS = Address("127.0.0.1", 9480), Address("127.0.0.1", 8080)
MAP = Address("127.0.0.1", 8765)


def parts(*, metrics: Address | None = None, finds_drift: bool = True, gtfs: Path | None = None) -> list[Part]:
    maps = {"/webhook/flespi": "flespi", "/webhook/mine": "./mine.toml"}
    at = Addresses(metrics, API, HOOKS, MAP)
    return table(HOME, 2, at, maps=maps, history="topic", finds_drift=finds_drift, gtfs=gtfs)


def chosen(without: Collection[str] = (), missing: Collection[str] = ()) -> tuple[list[str], list[str]]:
    found, lines = choose(parts(), frozenset(without), lambda module: module not in missing)
    return [part.name for part in found], lines


def test_every_part_is_one_that_can_be_left_out() -> None:
    every = parts(gtfs=Path("/srv/feed.zip"))
    assert {part.kind for part in every} == set(KINDS)
    assert len({part.name for part in every}) == len(every)
    assert {part.kind for part in parts()} == set(KINDS) - {"transit"}, "which needs a schedule"


def test_this_version_has_every_command_and_option() -> None:
    """Else a part would end at each start."""
    for part in join_services(parts(metrics=FIRST), FIRST, 2):
        command, words = ROOT, list(part.command)
        while getattr(command, "commands", None):
            command = command.commands[words.pop(0)]
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, part.name


def test_a_part_whose_extra_is_not_installed_is_left_out_and_one_line_says_how_to_get_it() -> None:
    names, lines = chosen(missing={"pyarrow"})
    assert "archive" not in names
    assert lines[0] == "without archive: it needs pip install 'pathcast[readers]'"


def test_a_part_that_would_have_nothing_to_do_is_left_out() -> None:
    names, lines = chosen(without={"scores"})
    assert "scores" not in names
    assert "guard" not in names
    assert lines[0] == "without guard: it needs scores, which does not run"
    assert "worker-1" not in chosen(without={"worker"})[0]


def test_all_services_are_one_process_with_the_options_of_those_that_run() -> None:
    def beside(*without: str) -> tuple[str, ...]:
        found, _ = choose(parts(), frozenset(without), lambda _: True)
        names = [part.name for part in join_services(found, FIRST, 2)]
        assert names.count("beside") == 1
        assert not {"archive", "scores", "guard", "latest", "arrivals", "atlas"} & {*names}
        return next(part.command for part in join_services(found, FIRST, 2) if part.name == "beside")

    assert beside() == (
        *("beside", "atlas,archive,scores,guard,latest,arrivals", "--atlases", "/srv/pathcast/atlases"),
        *("--archive", "/srv/pathcast/archive", "--registry", "/srv/pathcast/registry", "--history", "topic"),
        *("--metrics", "127.0.0.1:9466"),
    )
    assert beside("atlas", "archive", "guard")[1:4] == ("scores,latest,arrivals", "--history", "topic")
    without = frozenset({"atlas", "archive", "scores", "latest", "arrivals"})
    found, _ = choose(parts(), without, lambda _: True)
    assert join_services(found, None, 2) == found, "nothing is left of them"


def test_a_fleet_with_a_schedule_has_its_trips_beside_the_other_services() -> None:
    assert "transit" not in {part.name for part in parts()}
    found, _ = choose(parts(gtfs=Path("/srv/feed.zip")), frozenset({"atlas", "archive", "scores", "arrivals"}), bool)
    command = next(part.command for part in join_services(found, None, 2) if part.name == "beside")
    state = ("--transit-state", "/srv/pathcast/transit")
    assert command == ("beside", "latest,transit", "--gtfs", "/srv/feed.zip", *state)


def test_scores_run_without_river() -> None:
    def options(*, finds_drift: bool) -> tuple[str, ...]:
        return next(part.command for part in parts(finds_drift=finds_drift) if part.name == "scores")

    assert "--no-drift" in options(finds_drift=False)
    assert "--no-drift" not in options(finds_drift=True)


def test_each_process_has_a_port_of_its_own() -> None:
    commands = {part.name: part.command for part in join_services(parts(metrics=FIRST), FIRST, 2)}
    served = {
        name: command[command.index("--metrics") + 1] for name, command in commands.items() if "--metrics" in command
    }
    assert served == {"worker-1": "127.0.0.1:9464", "worker-2": "127.0.0.1:9465", "beside": "127.0.0.1:9466"}
    assert not any("--metrics" in part.command for part in parts())
    assert [address and address.port for address in addresses_from(Address("::1", 0), 2)] == [0, 0]
    with pytest.raises(ValueError, match="no 3 ports from 65534 on"):
        addresses_from(Address("127.0.0.1", 65_534), 3)


def test_what_others_reach_is_told_its_address() -> None:
    commands = {part.name: part.command for part in parts()}
    assert commands["serve"][:3] == ("serve", "--listen", "127.0.0.1:9480")
    assert commands["ingest"][2:] == ("--listen", "127.0.0.1:8080", "--map=flespi", "--map=./mine.toml")
    listening = {part.name: (str(part.listens), part.paths) for part in parts() if part.listens is not None}
    assert listening["ingest"] == ("127.0.0.1:8080", ("/webhook/flespi", "/webhook/mine"))
    assert listening.keys() == {"serve", "ingest", "map"}


def test_one_process_serves_the_api_and_the_map_unless_the_map_has_an_address_of_its_own() -> None:
    def served(at_map: Address | None) -> dict[str, tuple[str, ...]]:
        at = Addresses(None, API, HOOKS, at_map)
        every = table(HOME, 2, at, maps={}, history="topic", finds_drift=True)
        return {part.name: part.command for part in every if part.name in ("serve", "map")}

    assert list(served(None)) == ["serve"]
    assert "--map" in served(None)["serve"]
    assert list(served(MAP)) == ["serve", "map"]
    assert "--map" not in served(MAP)["serve"], "who opens one of the two addresses to others does not open the other"


def test_arrivals_know_the_archive_of_this_prefix_or_else_the_topic() -> None:
    """In one directory there may be archives of two prefixes, of which `archive:DIR` alone would be none."""
    assert history_of(HOME, "a.pings.v1", reads_archive=True) == "archive:/srv/pathcast/archive/a.pings.v1?since=7d"
    assert history_of(HOME, "a.pings.v1", reads_archive=False) == "topic"


def test_the_atlas_begins_with_a_recording_the_archive_of_this_directory_or_the_topic(tmp_path: Path) -> None:
    home, topic = Home(tmp_path), "a.pings.v1"
    columns = "t=when,entity_id=vehicle"
    fleet = tmp_path / "fleet.csv"
    fleet.write_text("vehicle,when,lat,lon\na,1490000000000,30,0\n")
    assert atlas_options(str(fleet), columns, "Europe/London", home, topic) == [
        "--atlas-history",
        str(fleet),
        *("--atlas-columns", columns),
        *("--atlas-timezone", "Europe/London"),
    ]
    assert atlas_options("topic", None, None, home, topic) == ["--atlas-history", "topic"]
    nothing = atlas_options("archive", None, None, home, topic)
    assert nothing == [], "nothing has landed yet, and the first start is no error"
    assert atlas_options(None, None, None, home, topic) == []
    every = table(
        home, 1, Addresses(None, API, HOOKS, None), maps={}, history="topic", finds_drift=True, of_atlas=("x",)
    )
    assert next(part.command for part in every if part.name == "atlas")[-1] == "x"


def test_servers_and_secrets_are_in_the_environment_and_never_in_a_command(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ours = {
        "PATHCAST_KAFKA_PASSWORD": "geheim",
        "PATHCAST_METRICS": "9000",
        "PATHCAST_WORKERS": "7",
        "PATHCAST_INSTANCE": "a",
        "PATHCAST_WEIGHTS": "mine",
        "PATHCAST_BOOTSTRAP": "elsewhere:1",
    }
    security = KafkaSecurity(Protocol.SASL_PLAINTEXT, Mechanism.PLAIN, "user", "geheim")
    found = environment(ours, "kafka:9092", "redis://u:geheim@redis/0", "fleet", security, PLAIN_REDIS)
    pathcast = {name: value for name, value in found.items() if name.startswith("PATHCAST_")}
    assert pathcast == {
        "PATHCAST_BOOTSTRAP": "kafka:9092",
        "PATHCAST_REDIS": "redis://u:geheim@redis/0",
        "PATHCAST_PREFIX": "fleet",
        "PATHCAST_GROUP": "fleet",
        "PATHCAST_KAFKA_SECURITY": "SASL_PLAINTEXT",
        "PATHCAST_KAFKA_MECHANISM": "PLAIN",
        "PATHCAST_KAFKA_USER": "user",
        "PATHCAST_KAFKA_PASSWORD": "geheim",
        "PATHCAST_WEIGHTS": "mine",
    }
    assert not ca.exists()
    assert not any("geheim" in word for part in parts() for word in part.command)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--without atlas,nonsense", "no such part: nonsense"),
        (f"--without {','.join(KINDS)}", "nothing is left to run"),
        ("--metrics nowhere:x", "expected HOST:PORT"),
        ("--kafka-security SSL", "give --bootstrap"),
        ("--serve nowhere:x", "expected HOST:PORT"),
        ("--history nowhere.csv", "nowhere.csv: no such file"),
        ("--columns t=when", "--columns and --timezone are for --history"),
        ("--history topic --columns t=when", "columns and time zones are for a recording"),
        ("--history topic --without atlas", "--history is for the atlas, which --without leaves out"),
        ("--ingest-map nonsense", "'nonsense' is neither a preset nor a file of a map"),
        ("--ingest 0.0.0.0:8080", "anybody who reaches 0.0.0.0:8080 could send to /webhook/flespi"),
    ],
)
def test_bad_options_are_told_before_anything_is_started(tmp_path: Path, options: str, message: str) -> None:
    app = typer.Typer()
    app.command()(up)
    result = CliRunner().invoke(
        app, [*options.split(), "--dir", str(tmp_path / "data")], env={**plain_environment(), "COLUMNS": "200"}
    )
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "data").exists()
