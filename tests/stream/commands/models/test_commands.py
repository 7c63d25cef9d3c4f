"""`pathcast models` over a registry with two versions of weights and an atlas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from registry_rig import atlas_bytes
from typer.testing import CliRunner, Result

from model.api import Parameters, load_weights
from model.parameters.writing import save
from stream.commands.models.cli import app
from stream.commands.models.showing import distances
from stream.registry import About, Data, Decision, Manifest, Registry


class World:
    """A registry, and its commands."""

    def __init__(self, folder: Path, weights: str) -> None:
        self.folder, self.url, self.now_s = folder, str(folder / "registry"), 1_800_000_000.0
        self.registry = Registry.opened(self.url, clock=lambda: self.now_s)
        data = Data(fingerprint="b3cd", pings=1234, entities=5, from_ts=1_700_000_000_000, to_ts=1_700_200_000_000)
        about = About(command="pathcast train", seed=1, data=data, metrics={"60 s": {"mean_m": 100.0}})
        self.first = self.registry.publish_weights(Path(weights), about)
        self.moved = moved(weights, folder / "moved")
        self.now_s += 60
        about = About(parent=self.first.version, metrics={"60 s": {"mean_m": 90.0}}, note="\x1b[2Jrefreshed")
        self.second = self.registry.publish_weights(self.moved, about)
        (folder / "any.atlas").write_bytes(atlas_bytes(1))
        self.atlas = self.registry.publish_atlas(folder / "any.atlas", About())

    def run(self, *arguments: str, registry: bool = True) -> Result:
        where = {"PATHCAST_REGISTRY": self.url} if registry else {}
        return CliRunner().invoke(app, arguments, env=where)

    def json(self, *arguments: str) -> Any:
        told = self.run(*arguments, "--json")
        assert told.exit_code == 0, told.output
        return json.loads(told.stdout)

    def decide(self, what: Any, version: str, **more: Any) -> None:
        one = Decision(what=what, kind="weights", version=version, ts=1, by="test", reason="It is nearer.", **more)
        self.registry.decide(one)


def moved(weights: str, folder: Path) -> Path:
    """The weights with one tensor moved by a tenth of its length."""
    found = load_weights(weights)
    name = _moves(found)
    save(Parameters(found.config, {**found.tensors, name: found.tensors[name] * np.float32(1.1)}), folder, "Moved.")
    return folder


def _moves(found: Parameters) -> str:
    return next(name for name in sorted(found.tensors) if name.startswith("trunk.") and found.tensors[name].ndim == 2)


@pytest.fixture
def world(tmp_path: Path, weights: str) -> World:
    return World(tmp_path, weights)


def test_list_has_every_version_and_what_it_is_now(world: World) -> None:
    world.decide("promote", world.second.version)
    told = world.run("list")
    assert told.exit_code == 0, told.output
    heading, *lines = told.stdout.splitlines()
    assert heading.split() == ["version", "kind", "name", "parent", "age", "data", "metrics", "now"]
    assert [line.split()[0] for line in lines] == [one.version for one in (world.first, world.second, world.atlas)]
    assert "1,234 pings, 5 entities, 2023-11-14 to 2023-11-17" in lines[0]
    assert "60 s.mean_m 90" in lines[1]
    assert world.first.version in lines[1], "its parent"
    assert [line.endswith("serving") for line in lines] == [False, True, False]
    assert [(one["version"], one["now"]) for one in world.json("list", "--kind", "weights")] == [
        (world.first.version, None),
        (world.second.version, "serving"),
    ]


def test_an_empty_registry_and_a_wrong_kind_are_told(tmp_path: Path, world: World) -> None:
    assert "no versions" in world.run("list", "--registry", str(tmp_path / "none"), registry=False).stderr
    assert world.run("list", registry=False).exit_code == 2, "no registry was named"
    assert world.run("list", "--kind", "model").exit_code == 2


def test_show_has_all_that_is_stated_and_decided(world: World) -> None:
    world.decide("canary", world.second.version, numbers={"percent": 5})
    told = world.run("show", world.second.version[:10]).stdout
    for text in (
        world.second.content,
        world.first.version,
        "metrics.60 s.mean_m",
        "canary",
        "percent 5",
        "It is nearer.",
    ):
        assert text in told
    assert "\x1b" not in told, "a note moves the cursor of a terminal"
    shown = world.json("show", world.second.version)
    assert shown["metrics"] == {"60 s": {"mean_m": 90.0}}
    assert shown["decisions"][0]["numbers"] == {"percent": 5}
    missing = world.run("show", "f" * 16)
    assert missing.exit_code == 1
    assert "has no weights and no atlas of version 'ffff" in str(missing.exception)


def test_diff_sets_manifests_side_by_side_and_measures_tensors(world: World, weights: str) -> None:
    told = world.run("diff", world.first.version, world.second.version)
    assert told.exit_code == 0, told.output
    assert "90 (-10.0%)" in told.stdout
    found = world.json("diff", world.first.version, world.second.version)
    name = _moves(load_weights(weights))
    (farthest, *others) = found["tensors"]
    assert farthest["name"] == name
    assert farthest["relative"] == pytest.approx(0.1, rel=1e-4)
    assert all(one["relative"] == 0.0 for one in others)
    assert "parent" in {line[0] for line in found["stated"]}
    assert world.run("diff", world.first.version, world.atlas.version).exit_code == 2


def test_distances_name_tensors_that_only_one_has_and_those_that_leave_zero(weights: str, tmp_path: Path) -> None:
    found = load_weights(weights)
    zeros = next(name for name, tensor in sorted(found.tensors.items()) if not tensor.any())
    save(Parameters(found.config, {**found.tensors, zeros: found.tensors[zeros] + 1}), tmp_path / "left", "A card.")
    first = distances(Path(weights), tmp_path / "left")[0]
    assert (first.name, first.relative, first.most) == (zeros, None, 1.0)


def test_decisions_are_listed_the_newest_last(world: World) -> None:
    none = world.run("list", "--decisions")
    assert (none.stdout, none.stderr) == ("", f"no decisions in {world.url}: nothing was decided there yet\n")
    world.decide("promote", world.first.version)
    world.decide("canary", world.second.version)
    assert {one["what"] for one in world.json("list", "--decisions")} == {"promote", "canary"}
    assert world.json("list", "--decisions", "--kind", "atlas") == []
    assert "It is nearer." in world.run("list", "--decisions").stdout


@pytest.mark.parametrize("what", [(), ("--decisions",)], ids=["versions", "decisions"])
def test_where_nothing_is_the_place_is_named_and_programs_still_read_json(
    what: tuple[str, ...], tmp_path: Path
) -> None:
    """A mistyped directory once looked like a registry in which nothing was published yet."""
    there, mistyped, file = tmp_path / "there", tmp_path / "mistyped", tmp_path / "file"
    there.mkdir()
    file.write_text("")

    def told(registry: Path, *more: str) -> Result:
        return CliRunner().invoke(app, ["list", *what, "--registry", str(registry), *more])

    assert f"in {there}: nothing was" in told(there).stderr
    assert f"in {mistyped}: there is no such directory, is --registry right?" in told(mistyped).stderr
    assert [told(one).stdout for one in (there, mistyped)] == ["", ""]
    assert (told(mistyped, "--json").stdout, told(mistyped, "--json").stderr) == ("[]\n", "")
    assert "is a file: expected a directory" in str(told(file).exception)


@pytest.mark.parametrize("out", ["version.tar", "folder"])
def test_what_is_exported_is_imported_as_it_was(world: World, out: str, tmp_path: Path) -> None:
    target = str(tmp_path / "target")
    for one in (world.second, world.atlas):
        told = world.run("export", one.version, "--out", str(tmp_path / out))
        assert told.exit_code == 0, told.output
        told = world.run("import", str(tmp_path / out), "--registry", target)
        assert told.exit_code == 0, told.output
    opened = Registry.opened(target)
    assert opened.manifests("weights") == [world.second]
    assert opened.manifests("atlas") == [world.atlas]
    assert (opened.fetch("weights", world.second.version) / "README.md").read_text() == "Moved."


def test_what_has_no_version_is_not_imported(world: World, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    told = world.run("import", str(tmp_path / "empty"))
    assert told.exit_code == 1
    assert "has no version" in str(told.exception)


def test_json_of_list_is_the_manifest(world: World) -> None:
    import msgspec

    (first, _) = world.json("list", "--kind", "weights")
    del first["now"]
    assert msgspec.convert(first, Manifest) == world.first
