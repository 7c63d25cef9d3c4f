"""One suite for a registry in a folder, in fsspec's memory and on a real S3 server."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import msgspec
import pytest
from registry_rig import atlas_bytes, weights_copy

from model.api import Atlas, Predictor, WeightsError
from stream.registry import (
    About,
    Ambiguous,
    Conflict,
    Damaged,
    Data,
    Decision,
    NotFound,
    Registry,
    RegistryError,
    content,
    standings,
)
from stream.registry.manifest import dumps_manifest

ABOUT = About(
    parent="0123456789abcdef",
    command="pathcast train --data austin.parquet",
    seed=7,
    data=Data(fingerprint="b3cd", sources=("austin",), from_ts=1_700_000_000_000, to_ts=1_700_086_400_000, pings=10),
    metrics={"austin": {"60 s": {"mean_m": 139.5}}},
    note="for tests",
)


@pytest.fixture
def registry(url: str, tmp_path: Path) -> Registry:
    return Registry.open(url, tmp_path / "cache")


def test_no_more_is_written_than_a_file_may_have(tmp_path: Path) -> None:
    """Of an archive that unpacks to more than it says."""
    parts = iter([b"x" * 10] * 1_000)
    with pytest.raises(RegistryError, match="more than 25 bytes"):
        content.write_file(parts, tmp_path / "file", 25)
    assert (tmp_path / "file").stat().st_size <= 25
    assert len(list(parts)) == 997, "the rest was not read"


def test_published_weights_are_fetched_as_they_were_and_serve(registry: Registry, weights: str) -> None:
    manifest = registry.publish_weights(Path(weights), ABOUT, golden=b"{}")
    assert (manifest.kind, manifest.name, manifest.parent, manifest.seed) == ("weights", "tiny", ABOUT.parent, 7)
    assert (manifest.data, manifest.metrics, manifest.command) == (ABOUT.data, ABOUT.metrics, ABOUT.command)
    folder = registry.fetch("weights", manifest.version)
    assert {path.name for path in folder.iterdir()} == set(manifest.files)
    for name in ("model.safetensors", "config.json", "README.md"):
        assert (folder / name).read_bytes() == (Path(weights) / name).read_bytes()
    assert (folder / "golden.json").read_bytes() == b"{}"
    assert Predictor.load(folder).version == manifest.version
    assert registry.manifest("weights", manifest.version) == manifest
    assert registry.manifests("weights") == [manifest]
    assert registry.manifests("atlas") == []


def test_a_published_atlas_has_the_name_that_a_worker_looks_for(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "any.atlas").write_bytes(atlas_bytes(1))
    manifest = registry.publish_atlas(tmp_path / "any.atlas", About())
    path = registry.fetch("atlas", manifest.version)
    assert path.name == f"{manifest.version}.atlas"
    assert path.read_bytes() == atlas_bytes(1)


def test_a_version_never_changes(registry: Registry, weights: str, tmp_path: Path) -> None:
    manifest = registry.publish_weights(Path(weights), ABOUT)
    assert registry.publish_weights(Path(weights), About(note="another")) == manifest
    with pytest.raises(Conflict, match=r"with another README\.md"):
        registry.publish_weights(weights_copy(tmp_path / "other", weights, "Another card."), ABOUT)
    assert registry.manifests("weights") == [manifest]
    registry.fetch("weights", manifest.version)


def test_golden_forecasts_of_another_processor_are_no_other_version(registry: Registry, weights: str) -> None:
    manifest = registry.publish_weights(Path(weights), ABOUT, golden=b"{}")
    for golden in (b"[]", None):
        assert registry.publish_weights(Path(weights), About(), golden) == manifest
    assert (registry.fetch("weights", manifest.version) / "golden.json").read_bytes() == b"{}"


def test_a_publisher_that_looked_too_early_overwrites_nothing(
    url: str, registry: Registry, weights: str, tmp_path: Path
) -> None:
    """Two that publish at once both find no such version. The second to come has everything ready, and then commits."""
    winner = registry.publish_weights(Path(weights), ABOUT)
    elsewhere = Registry.open(str(tmp_path / "elsewhere"))
    loser = elsewhere.publish_weights(weights_copy(tmp_path / "other", weights, "Another card."), About())
    with registry._store.staging("weights") as stage:
        shutil.copytree(elsewhere.fetch("weights", loser.version), stage / loser.content)
        committed = registry._store.commit("weights", loser.version, loser.content, stage, dumps_manifest(loser))
    assert not committed
    assert registry.manifests("weights") == [winner]
    card = registry.fetch("weights", winner.version) / "README.md"
    assert card.read_bytes() == (Path(weights) / "README.md").read_bytes()


def test_the_newest_version_comes_last_and_a_prefix_names_one(url: str, tmp_path: Path) -> None:
    now_s = 1_000.0
    registry = Registry.open(url, tmp_path / "cache", clock=lambda: now_s)
    made = []
    for raw in _three_atlases():
        (tmp_path / "any.atlas").write_bytes(raw)
        now_s -= 1.0  # so that the order is not that of the calls
        made.append(registry.publish_atlas(tmp_path / "any.atlas", About()))
    assert registry.manifests("atlas") == made[::-1]
    for one in made:
        assert registry.manifest("atlas", one.version[:8]) == one
    with pytest.raises(Ambiguous, match="2 versions of atlas begin with"):
        registry.manifest("atlas", made[0].version[0])
    assert registry.manifest("atlas", made[2].version[0]) == made[2]
    for unknown in ("", "x", "../..", "f" * 16):
        with pytest.raises(NotFound):
            registry.manifest("atlas", unknown)
    with pytest.raises(NotFound):
        registry.fetch("atlas", "../../etc")


def _three_atlases() -> list[bytes]:
    """Two atlases whose versions begin with the same digit, and one whose version does not."""
    by_digit: dict[str, list[bytes]] = {}
    for number in range(40):
        raw = atlas_bytes(number)
        by_digit.setdefault(Atlas.of(raw).version[0], []).append(raw)
    several = next(raws for raws in by_digit.values() if len(raws) > 1)
    return [*several[:2], next(raws for raws in by_digit.values() if raws is not several)[0]]


def test_what_no_worker_could_serve_is_not_published(registry: Registry, weights: str, tmp_path: Path) -> None:
    cut = weights_copy(tmp_path / "cut", weights, "A card.")
    tensors = cut / "model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-8])
    with pytest.raises(WeightsError):
        registry.publish_weights(cut, About())
    bare = weights_copy(tmp_path / "bare", weights, "A card.")
    (bare / "README.md").unlink()
    with pytest.raises(FileNotFoundError, match="README"):
        registry.publish_weights(bare, About())
    (tmp_path / "no.atlas").write_bytes(b"PCAT")
    with pytest.raises(ValueError, match="atlas"):
        registry.publish_atlas(tmp_path / "no.atlas", About())
    with pytest.raises(RegistryError, match="cannot be stated"):
        registry.publish_weights(Path(weights), About(parent="none"))
    assert registry.manifests("weights") == registry.manifests("atlas") == []


def test_decisions_are_kept_in_order_and_say_what_a_version_is(registry: Registry) -> None:
    a, b, c = "a" * 16, "b" * 16, "c" * 16
    made = [
        _decision("promote", a, 1),
        _decision("canary", b, 3, numbers={"percent": 5}),
        _decision("promote", b, 4, instead_of=a),
        _decision("refuse", c, 5),
        _decision("rollback", a, 1_800_000_000_000, instead_of=b),
    ]
    for one in made[::-1]:
        registry.decide(one)
    assert registry.decisions() == made
    now = standings(made)
    assert now == {("weights", a): "serving", ("weights", b): "rolled back", ("weights", c): "refused"}
    assert standings(made[:3])["weights", a] == "replaced"
    assert standings(made[:2])["weights", b] == "canary"
    with pytest.raises(RegistryError, match="no decision"):
        registry.decide(_decision("promote", "../x", 6))
    assert len(registry.decisions()) == len(made)


def _decision(what: Any, version: str, ts: int, **more: Any) -> Decision:
    return Decision(what=what, kind="weights", version=version, ts=ts, by="test", reason="It is so.", **more)


def test_a_version_is_deleted_but_not_while_it_is_kept(registry: Registry, weights: str) -> None:
    version = registry.publish_weights(Path(weights), About()).version
    with pytest.raises(RegistryError, match="in use"):
        registry.delete("weights", version, keep=[version])
    registry.delete("weights", version)
    assert registry.manifests("weights") == []
    for unknown in (version, "../x"):
        with pytest.raises(NotFound):
            registry.delete("weights", unknown)
    assert registry.publish_weights(Path(weights), About()).version == version


@pytest.mark.parametrize("how", ["flipped", "cut", "longer", "gone"])
def test_damaged_files_are_refused(url: str, registry: Registry, weights: str, how: str, tmp_path: Path) -> None:
    manifest = registry.publish_weights(Path(weights), About())
    fs, root = fsspec.core.url_to_fs(url)
    path = f"{root}/weights/{manifest.version}/{manifest.content}/model.safetensors"
    raw = bytearray(fs.cat_file(path))
    raw[len(raw) // 2] ^= 1
    if how == "gone":
        fs.rm_file(path)
    else:
        fs.pipe_file(path, {"flipped": bytes(raw), "cut": bytes(raw[:-1]), "longer": bytes(raw) + b"x"}[how])
    with pytest.raises(Damaged, match=r"model\.safetensors"):
        registry.fetch("weights", manifest.version)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.name != ".lock"] == []


def test_other_weights_under_a_versions_name_are_refused(url: str, registry: Registry, weights: str) -> None:
    """Hashes of a manifest are whatever its writer says. The version is a hash of the weights themselves."""
    manifest = registry.publish_weights(Path(weights), About())
    fs, root = fsspec.core.url_to_fs(url)
    other, folder = "f" * 16, f"{root}/weights/{'f' * 16}"
    fs.makedirs(f"{folder}/{manifest.content}", exist_ok=True)
    for name in manifest.files:
        fs.pipe_file(f"{folder}/{manifest.content}/{name}", (Path(weights) / name).read_bytes())
    stated = {**msgspec.to_builtins(manifest), "version": other}
    fs.pipe_file(f"{folder}/manifest.json", msgspec.json.encode(stated))
    with pytest.raises(Damaged, match=f"those of version {manifest.version}"):
        registry.fetch("weights", other)


def test_a_damaged_cache_is_fetched_again(weights: str, tmp_path: Path, s3: str) -> None:
    registry = Registry.open(f"{s3}/{tmp_path.name}", tmp_path / "cache")
    version = registry.publish_weights(Path(weights), About()).version
    tensors = registry.fetch("weights", version) / "model.safetensors"
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:100])
    assert registry.fetch("weights", version) / "model.safetensors" == tensors
    assert tensors.read_bytes() == whole


def test_what_is_in_the_cache_serves_while_the_registry_is_away(weights: str, tmp_path: Path, s3: str) -> None:
    """A version never changes, so that a worker can start again while an object store has an outage."""
    url = f"{s3}/{tmp_path.name}"
    registry = Registry.open(url, tmp_path / "cache")
    version = registry.publish_weights(Path(weights), About()).version
    folder = registry.fetch("weights", version)
    registry.delete("weights", version)
    assert Registry.open(url, tmp_path / "cache").fetch("weights", version) == folder


def test_a_registry_is_copied_as_files_are(weights: str, tmp_path: Path, s3: str) -> None:
    local, url = str(tmp_path / "registry"), f"{s3}/{tmp_path.name}"
    manifest = Registry.open(local).publish_weights(Path(weights), ABOUT)
    fs, root = fsspec.core.url_to_fs(url)
    fs.put(f"{local}/", f"{root}/", recursive=True)
    registry = Registry.open(url, tmp_path / "cache")
    assert registry.manifests("weights") == [manifest]
    registry.fetch("weights", manifest.version)


def test_a_registry_that_cannot_be_reached_is_one_clear_line(tmp_path: Path, s3: str) -> None:
    registry = Registry.open("s3://no-such-bucket/x", tmp_path)
    with pytest.raises((OSError, NotFound), match="no-such-bucket"):
        registry.manifest("weights", "0" * 16)
    with pytest.raises(ValueError, match=r"nosuch://x cannot be opened.*pathcast\[s3\]"):
        Registry.open("nosuch://x")


def test_a_manifest_that_is_none_is_no_version(url: str, registry: Registry, weights: str) -> None:
    version = registry.publish_weights(Path(weights), About()).version
    fs, root = fsspec.core.url_to_fs(url)
    for name, raw in (("0" * 16, b""), ("1" * 16, b"{}"), ("2" * 16, b"x" * 3_000_000), ("3" * 15, b"{}")):
        fs.makedirs(f"{root}/weights/{name}", exist_ok=True)
        fs.pipe_file(f"{root}/weights/{name}/manifest.json", raw)
    assert [one.version for one in registry.manifests("weights")] == [version]
    for name in ("1" * 16, "2" * 16):
        with pytest.raises(Damaged, match=name):
            registry.manifest("weights", name)


def test_a_local_registry_needs_neither_fsspec_nor_arrow_nor_torch(weights: str, tmp_path: Path) -> None:
    url = tmp_path / "registry"
    version = Registry.open(str(url)).publish_weights(Path(weights), About()).version
    script = (
        "import sys; from stream.registry import Registry; "
        f"before = 'model.api' in sys.modules; Registry.open({str(url)!r}).fetch('weights', {version!r}); "
        "print(before, *[name for name in ('fsspec', 's3fs', 'pyarrow', 'torch') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert told.stdout.split() == ["False"]
