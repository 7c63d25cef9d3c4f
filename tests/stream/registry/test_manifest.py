"""Manifests of strangers, and archives of strangers: refused with one clear line, and nothing written elsewhere."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream.registry import About, Damaged, File, Manifest, Registry
from stream.registry.archive import pack, unpack
from stream.registry.manifest import content_of, dumps_manifest, loads_manifest

VERSION = "0123456789abcdef"
NAMES = ("../x", "/etc/passwd", "a/b", "..", ".x", "", "a\nb", "x" * 200)
FILES = {name: File(1, "0" * 64) for name in ("config.json", "model.safetensors", "README.md")}
PLAIN = Manifest(
    kind="weights",
    name="small",
    version=VERSION,
    parent=None,
    created_ts=1,
    content=content_of(FILES),
    files=FILES,
    command="",
    seed=None,
    program="0",
    data=About().data,
    metrics={"mean_m": 1.5},
    note="",
)


def stated(**changes: Any) -> bytes:
    return msgspec.json.encode({**msgspec.to_builtins(PLAIN), **changes})


def with_file(name: str, size: int = 1) -> bytes:
    """A manifest that names one more file, and hashes them all as it should."""
    files = {**FILES, name: File(size, "0" * 64)}
    return stated(files=msgspec.to_builtins(files), content=content_of(files))


MANY = {**FILES, **{f"{n}.bin": File(0, "0" * 64) for n in range(20)}}


def test_a_manifest_is_read_as_it_was_written() -> None:
    assert loads_manifest(dumps_manifest(PLAIN), "weights", VERSION) == PLAIN
    assert loads_manifest(with_file("extra.json"), "weights", VERSION).bytes == 4


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b'{"note": "' + b"x" * 2_000_000 + b'"}', "more than"),
        (stated(format=2), "newer version"),
        (stated(version="f" * 16), "is that of"),
        (stated(kind="atlas"), "is that of"),
        (stated(version="../../../etc/x"), "cannot be read"),
        (stated(parent="../x"), "cannot be read"),
        (stated(content="0" * 64), "content hash"),
        (stated(files={}, content=content_of({})), r"no config\.json"),
        (stated(name="x" * 1000), "cannot be read"),
        (stated(created_ts=-1), "cannot be read"),
        *((with_file(name), "no plain file name") for name in NAMES),
        (with_file("huge.bin", 1 << 40), "at most"),
        (with_file("negative.bin", -1), "cannot be read"),
        (stated(files=msgspec.to_builtins(MANY), content=content_of(MANY)), "23 files"),
    ],
)
def test_a_manifest_of_a_stranger_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(Damaged, match=reason):
        loads_manifest(raw, "weights", VERSION)


@pytest.fixture
def packed(weights: str, tmp_path: Path) -> Path:
    registry = Registry.open(str(tmp_path / "source"))
    manifest = registry.publish_weights(Path(weights), About())
    pack(manifest, registry.fetch("weights", manifest.version), tmp_path / "version.tar")
    return tmp_path / "version.tar"


def test_a_version_in_an_archive_is_the_same_version(packed: Path, tmp_path: Path) -> None:
    unpack(packed, tmp_path / "there")
    (manifest,) = Registry.open(str(tmp_path / "there")).manifests("weights")
    target = Registry.open(str(tmp_path / "target"))
    source = Registry.open(str(tmp_path / "there"))
    assert target.adopt(manifest, source.fetch("weights", manifest.version)) == manifest
    assert target.manifests("weights") == [manifest]
    again = tmp_path / "again.tar"
    pack(manifest, target.fetch("weights", manifest.version), again)
    assert again.read_bytes() == packed.read_bytes()


def test_files_that_are_not_the_manifests_are_not_adopted(packed: Path, tmp_path: Path) -> None:
    unpack(packed, tmp_path / "there")
    (manifest,) = Registry.open(str(tmp_path / "there")).manifests("weights")
    folder = tmp_path / "there" / "weights" / manifest.version / manifest.content
    (folder / "README.md").write_text("Another card.")
    with pytest.raises(Damaged, match=r"README\.md"):
        Registry.open(str(tmp_path / "target")).adopt(manifest, folder)


def _entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> Callable[[tarfile.TarFile], None]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, target, 1 if kind == tarfile.REGTYPE else 0
    return lambda tar: tar.addfile(member, io.BytesIO(b"x"))


@pytest.mark.parametrize(
    "add",
    [
        _entry("../outside"),
        _entry("/tmp/outside"),
        _entry(f"weights/{VERSION}/../../../outside"),
        _entry(f"weights/{VERSION}/{'0' * 64}/../x"),
        _entry("anything.txt"),
        _entry(f"weights/{VERSION}/manifest.json", tarfile.SYMTYPE, "/etc/passwd"),
        _entry(f"weights/{VERSION}/{'0' * 64}/config.json", tarfile.LNKTYPE, "/etc/passwd"),
        _entry(f"weights/{VERSION}/{'0' * 64}/config.json", tarfile.FIFOTYPE),
    ],
)
def test_an_archive_of_a_stranger_writes_nothing_elsewhere(
    add: Callable[[tarfile.TarFile], None], tmp_path: Path
) -> None:
    file, folder = tmp_path / "hostile.tar", tmp_path / "in" / "here"
    with tarfile.open(file, "w") as tar:
        add(tar)
    folder.mkdir(parents=True)
    with pytest.raises(Damaged, match=r"hostile\.tar is no archive"):
        unpack(file, folder)
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == [file]


@pytest.mark.parametrize("raw", [b"", b"x" * 2000, os.urandom(2000)])
def test_what_is_no_archive_is_refused(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(raw)
    with pytest.raises(Damaged):
        unpack(tmp_path / "x.tar", tmp_path / "there")


@pytest.mark.parametrize("part", [0.01, 0.1, 0.3, 0.6])
def test_an_archive_that_was_cut_gives_no_version(packed: Path, tmp_path: Path, part: float) -> None:
    """tarfile itself takes some for whole: then a file is missing or short."""
    raw = packed.read_bytes()
    packed.write_bytes(raw[: round(part * len(raw))])
    with pytest.raises(Damaged):
        _imported(packed, tmp_path / "there")


def _imported(packed: Path, folder: Path) -> None:
    unpack(packed, folder)
    source = Registry.open(str(folder))
    (manifest,) = source.manifests("weights")
    source.fetch("weights", manifest.version)
