"""Publications and fetches that are killed, and several at once: each in a process of its own."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import fsspec
import pytest
from registry_rig import FETCH, PUBLISH, ended, run, weights_copy

from stream.registry import About, NotFound, Registry, store
from stream.registry.registry import STALE_S

FILES = 3
KILLED = -signal.SIGKILL


def names(url: str) -> list[str]:
    """Every file of a registry."""
    fs, root = fsspec.core.url_to_fs(url)
    fs.invalidate_cache()
    return [name.removeprefix(f"{root}/") for name in fs.find(root)]


@pytest.mark.parametrize("point", [*(f"before_file:{at + 1}" for at in range(FILES)), "before_manifest"])
def test_a_publication_that_is_killed_shows_nothing_and_can_be_made_again(
    shared_url: str, weights: str, tmp_path: Path, point: str
) -> None:
    code, said = ended(run(PUBLISH, shared_url, weights, "first", kill_point=point))
    assert code == KILLED, said
    registry = Registry.open(shared_url, tmp_path / "cache")
    assert registry.manifests("weights") == []
    # Even with another card: what is left of the first does not stand in the way.
    again = weights_copy(tmp_path / "again", weights, "Another card.")
    version = registry.publish_weights(again, About()).version
    assert (registry.fetch("weights", version) / "README.md").read_text() == "Another card."


def test_a_local_publication_that_is_killed_before_its_rename_shows_nothing(tmp_path: Path, weights: str) -> None:
    url = str(tmp_path / "registry")
    code, said = ended(run(PUBLISH, url, weights, "first", kill_point="before_rename"))
    assert code == KILLED, said
    assert any(name.endswith("manifest.json") for name in names(url)), "it was not killed where it was meant to be"
    registry = Registry.open(url)
    assert registry.manifests("weights") == []
    registry.fetch("weights", registry.publish_weights(Path(weights), About()).version)


def test_all_files_of_a_version_are_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut leaves a version with an empty manifest, which a kill does not: the page cache outlives it."""
    synced: set[int] = set()
    named: list[set[str]] = []  # what was not on the disk, by rename
    sync, rename = os.fsync, store._rename

    def noted(descriptor: int) -> None:
        sync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def checked(source: Path, target: Path) -> None:
        named.append({path.name for path in source.rglob("*") if path.stat().st_ino not in synced})
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(store, "_rename", checked)
    Registry.open(str(tmp_path / "registry")).publish_weights(Path(weights), About())
    assert named
    assert not set.union(*named)


def test_a_publication_that_is_killed_at_its_end_is_there(shared_url: str, weights: str, tmp_path: Path) -> None:
    code, said = ended(run(PUBLISH, shared_url, weights, "first", kill_point="after_publication"))
    assert code == KILLED, said
    registry = Registry.open(shared_url, tmp_path / "cache")
    (manifest,) = registry.manifests("weights")
    assert manifest.note == "first"
    assert registry.publish_weights(Path(weights), About(note="second")) == manifest
    registry.fetch("weights", manifest.version)


def test_what_a_killed_publication_left_is_deleted_after_a_day(shared_url: str, weights: str, tmp_path: Path) -> None:
    ended(run(PUBLISH, shared_url, weights, "first", kill_point="before_manifest"))
    left = names(shared_url)
    assert len(left) >= FILES
    now_s = time.time()
    for later_s, expected in ((STALE_S - 3600, left), (STALE_S + 3600, [])):
        Registry.open(shared_url, clock=lambda later_s=later_s: now_s + later_s).clean()  # type: ignore[misc]
        assert names(shared_url) == expected
    # What is published stays, however old it is; so does what is beside it and younger.
    registry = Registry.open(shared_url, tmp_path / "cache")
    version = registry.publish_weights(Path(weights), About()).version
    Registry.open(shared_url, clock=lambda: now_s + 10 * STALE_S).clean()
    registry.fetch("weights", version)


def test_a_deletion_that_is_killed_shows_nothing(shared_url: str, weights: str, tmp_path: Path) -> None:
    script = PUBLISH.replace("print(", "v = (") + "\nRegistry.open(sys.argv[1]).delete('weights', v)"
    code, said = ended(run(script, shared_url, weights, "first", kill_point="within_deletion"))
    assert code == KILLED, said
    assert len(names(shared_url)) >= FILES
    registry = Registry.open(shared_url, tmp_path / "cache")
    assert registry.manifests("weights") == []
    registry.fetch("weights", registry.publish_weights(Path(weights), About()).version)


def test_of_two_publishers_at_once_one_wins_and_the_other_hears_of_it(
    shared_url: str, weights: str, tmp_path: Path
) -> None:
    """With another card each: files of one under the manifest of the other would be a damaged version."""
    folders = [weights_copy(tmp_path / f"{n}", weights, f"Card {n}.") for n in range(3)]
    started = [run(PUBLISH, shared_url, str(folder), folder.name) for folder in folders]
    codes, said = zip(*map(ended, started), strict=True)
    assert sorted(codes) == [0, 1, 1], said
    assert all("with another README.md" in text for code, text in zip(codes, said, strict=True) if code)
    registry = Registry.open(shared_url, tmp_path / "cache")
    (manifest,) = registry.manifests("weights")
    assert manifest.note == str(codes.index(0))
    assert (registry.fetch("weights", manifest.version) / "README.md").read_text() == f"Card {manifest.note}."


def test_processes_fetch_at_once_and_one_is_killed_half_way(weights: str, tmp_path: Path, s3: str) -> None:
    url, cache = f"{s3}/{tmp_path.name}", tmp_path / "cache"
    version = Registry.open(url).publish_weights(Path(weights), About()).version
    code, said = ended(run(FETCH, url, str(cache), version, kill_point="before_file:2"))
    assert code == KILLED, said
    assert [path for path in cache.glob("*/weights/*") if not path.name.startswith(".")] == []
    started = [run(FETCH, url, str(cache), version) for _ in range(3)]
    codes, said_by = zip(*map(ended, started), strict=True)
    assert set(codes) == {0}, said_by
    (folder,) = {text.strip() for text in said_by}
    assert sorted(path.name for path in Path(folder).iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_a_version_that_is_not_there_leaves_no_cache(s3: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Registry.open(f"{s3}/{tmp_path.name}", tmp_path / "cache").fetch("weights", "0" * 16)
    assert [path for path in (tmp_path / "cache").glob("*/weights/*") if path.name != ".lock"] == []
