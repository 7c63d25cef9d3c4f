"""Reads weights, atlases and a registry, and asks which kernels are compiled. It writes nothing: so kernels that are
not compiled yet are not compiled here, and nothing of a remote registry is put into its cache."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stream.config.security import KafkaSecurity
from stream.wire import Topics


@dataclass(frozen=True)
class Weights:
    given: str  # a bundled name or a directory
    error: str = ""  # why they cannot be used
    name: str = ""
    version: str = ""
    golden: bool = False  # there are golden forecasts beside them
    differs: str = ""  # why golden forecasts are others here; empty: they agree, or were not made
    compiled: bool | None = None  # kernels are; None: no folder for them is writable
    kernels: Sequence[Path] = ()  # the folders


@dataclass(frozen=True)
class Announced:
    """The versions that the models topic names."""

    atlases: Sequence[str] = ()
    weights: Sequence[str] = ()


@dataclass(frozen=True)
class Atlases:
    folder: Path
    error: str = ""  # why it cannot be read
    files: int = 0
    missing: Sequence[str] = ()  # versions that are announced
    damaged: Mapping[str, str] = field(default_factory=dict)  # and why
    announced: int | None = None  # how many are; None: that could not be read
    free_bytes: int = 0
    total_bytes: int = 1


@dataclass(frozen=True)
class Versions:
    """A registry."""

    url: str
    error: str = ""
    weights: int = 0
    atlases: int = 0
    missing: Sequence[str] = ()  # weights that are announced
    damaged: Mapping[str, str] = field(default_factory=dict)
    checked: int = 0  # versions whose files were read
    is_remote: bool = False


def weights(given: str) -> Weights:
    import stream.engine.engine  # noqa: F401 - its kernels are a worker's, too
    from model.api import Predictor, load_weights, weights_folder
    from model.jit import cache_folders, is_compiled
    from stream.registry.golden import check_golden
    from stream.registry.manifest import GOLDEN

    try:
        found, golden = load_weights(given), weights_folder(given) / GOLDEN
        base = Weights(
            given,
            name=found.config.name,
            version=found.fingerprint().hex(),
            golden=golden.is_file(),
            compiled=is_compiled(),
            kernels=cache_folders(),
        )
        if not base.golden or not base.compiled:
            return base
        differs = check_golden(Predictor(found, name=found.config.name, capacity=64), golden.read_bytes())
        return Weights(**{**vars(base), "differs": differs or ""})
    except (OSError, ValueError) as error:
        return Weights(given, error=str(error))


def read_announced(bootstrap: str, topics: Topics, security: KafkaSecurity, timeout_s: float) -> Announced:
    """Reads the models topic. Raises KafkaError, or TimeoutError."""

    async def read() -> Announced:
        from stream.versions.announcement_reader import AnnouncementReader

        async with asyncio.timeout(timeout_s), AnnouncementReader.open(bootstrap, topics, security) as announcements:
            await announcements.look()
            atlases = [*announcements.ledger.serving, *announcements.ledger.announced]
            return Announced([one.version for one in atlases], [one.version for one in announcements.weights.records])

    return asyncio.run(read())


def atlases(folder: Path, said: Announced | None) -> Atlases:
    from model.api import Atlas
    from stream.versions.files import SUFFIX, path_of

    try:
        files = [path for path in folder.iterdir() if path.suffix == SUFFIX]
        space = shutil.disk_usage(folder)
    except OSError as error:
        return Atlases(folder, error=error.strerror or str(error))
    wanted = dict.fromkeys(said.atlases) if said else {path.stem: None for path in files}
    missing, damaged = [], {}
    for version in wanted:
        path = path_of(folder, version)
        try:
            if (own := Atlas.load(path).version) != version:
                damaged[version] = f"the file is version {own}"
        except FileNotFoundError:
            missing.append(version)
        except (OSError, ValueError) as error:
            damaged[version] = str(error)
    count = None if said is None else len(said.atlases)
    return Atlases(folder, "", len(files), missing, damaged, count, space.free, space.total)


def versions(url: str, said: Announced | None) -> Versions:
    from stream.registry import Registry, RegistryError
    from stream.registry.manifest import NotFound

    is_remote = ("://" in url or "::" in url) and not url.startswith("file://")
    try:
        if not is_remote and not Path(url.removeprefix("file://")).is_dir():
            return Versions(url, error="there is no such directory")
        registry = Registry.open(url)
        known = registry.manifests("weights")
        count = len(registry.manifests("atlas"))
    except (OSError, ValueError, RuntimeError) as error:
        return Versions(url, error=str(error), is_remote=is_remote)
    there = {one.version for one in known}
    wanted = dict.fromkeys(said.weights) if said and said.weights else dict.fromkeys(sorted(there))
    missing, damaged, checked = [], {}, 0
    for version in wanted:
        if is_remote:
            if version not in there:
                missing.append(version)
            continue
        try:
            registry.fetch("weights", version)
            checked += 1
        except NotFound:
            missing.append(version)
        except (RegistryError, OSError, ValueError) as error:
            damaged[version] = str(error)
    return Versions(url, "", len(known), count, missing, damaged, checked, is_remote)
