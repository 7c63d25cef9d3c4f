"""Keeps versions of weights and of atlases in one place, and decisions about them."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from importlib.metadata import version as installed
from os import environ
from pathlib import Path
from typing import Final, Self

from stream.config import failpoints
from stream.config.security import shown
from stream.registry.content import (
    Identity,
    atlas_identity,
    check_files,
    check_identity,
    weights_identity,
    write_file,
)
from stream.registry.decisions import Decision, dumps_decision, loads_decision
from stream.registry.manifest import (
    CARD,
    CONFIG,
    GOLDEN,
    MAX_BYTES,
    TENSORS,
    About,
    Ambiguous,
    Conflict,
    Damaged,
    File,
    Kind,
    Manifest,
    NotFound,
    RegistryError,
    atlas_file,
    content_of,
    dumps_manifest,
    loads_manifest,
)
from stream.registry.store import IS_VERSION, LocalStore, RemoteStore
from stream.storage import LocalFolder, open_storage, pieces

log: Final = logging.getLogger(__name__)

STALE_S: Final = 86_400.0  # what is left of a publication is deleted after a day: none takes so long
_FILES: Final = "files"  # of a staging folder, until the hash of all files is known


class Registry:
    """Versions that never change, each with its manifest, and decisions that are only ever added.

    Methods raise RegistryError (a ValueError) for what cannot be done, and OSError if the registry cannot be reached.
    """

    def __init__(
        self,
        store: LocalStore | RemoteStore,
        kept: LocalStore,
        url: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`kept` is where files are read: the store itself if that is local. Use `opened`."""
        self._store = store
        self._kept = kept
        self._url = shown(url)
        self._clock = clock

    @classmethod
    def opened(cls, url: str, cache: Path | None = None, *, clock: Callable[[], float] = time.time) -> Self:
        """Opens a directory, or any URL that fsspec knows, such as s3://bucket/pathcast. It need not exist yet.
        Versions of a remote registry are fetched to `cache`, by default a folder of the user's own cache. `clock` gives
        Unix seconds. Raises RegistryError for a file, ValueError if a package for this kind of URL is not installed.
        """
        storage = open_storage(url, "the registry")
        if isinstance(storage, LocalFolder):
            if storage.root.is_file():
                raise RegistryError(f"the registry {storage.root} is a file: expected a directory, or a URL")
            store = LocalStore(storage)
            return cls(store, store, url, clock)
        root = (cache or _user_cache()) / sha256(url.encode()).hexdigest()[:16]
        return cls(RemoteStore(storage), LocalStore(LocalFolder(root)), url, clock)

    @property
    def is_missing(self) -> bool:
        """Returns whether a local registry has no directory yet. A remote one is not asked."""
        return isinstance(self._store, LocalStore) and not self._store.exists()

    def publish_weights(self, folder: Path, about: About, golden: bytes | None = None) -> Manifest:
        """Publishes weights that a worker can serve. Their version is the fingerprint that a Predictor of them has.

        `golden` (`stream.registry.golden`) is by default the folder's own golden.json, if it has one. If the version
        exists with the same files, golden forecasts aside, its manifest is returned as it is. Raises Conflict if it has
        others, and WeightsError for weights that cannot be served.
        """
        sources: dict[str, Path | bytes] = {name: folder / name for name in (CONFIG, TENSORS, CARD)}
        if golden is not None:
            sources[GOLDEN] = golden
        elif (folder / GOLDEN).is_file():
            sources[GOLDEN] = folder / GOLDEN
        return self._publish("weights", sources, about)

    def publish_atlas(self, path: Path, about: About) -> Manifest:
        """Publishes the file of an atlas. Its version is the one that its bytes have. Otherwise as `publish_weights`;
        raises AtlasError for a file that is no atlas.
        """
        return self._publish("atlas", {"atlas": path}, about)

    def adopt(self, manifest: Manifest, folder: Path) -> Manifest:
        """Publishes a version of another registry as it is there. Raises Damaged if the folder has other files than the
        manifest says, or they are another version."""
        check_files(folder, manifest.files)
        with self._store.staging(manifest.kind) as stage:
            self._copied({name: folder / name for name in manifest.files}, stage / manifest.content, manifest.kind)
            check_files(stage / manifest.content, manifest.files)
            check_identity(manifest.kind, manifest.version, stage / manifest.content)
            return self._placed(manifest, stage)

    def manifests(self, kind: Kind) -> list[Manifest]:
        """Returns all versions, newest last. A manifest that cannot be read is none; it is logged."""
        found = []
        for version, raw in self._store.listing(kind).items():
            try:
                found.append(loads_manifest(raw, kind, version))
            except Damaged as error:
                log.warning("%s: %s", self._url, error)
        return sorted(found, key=lambda one: (one.created_ts, one.version))

    def manifest(self, kind: Kind, version_or_prefix: str) -> Manifest:
        """Returns the version with that name, or the only one whose name begins so. Raises NotFound, Ambiguous and
        Damaged."""
        if IS_VERSION.fullmatch(version_or_prefix):
            raw = self._store.manifest(kind, version_or_prefix)
            if raw is None:
                raise NotFound(f"the registry {self._url} has no {kind} of version {version_or_prefix}")
            return loads_manifest(raw, kind, version_or_prefix)
        fitting = [
            one for one in self.manifests(kind) if version_or_prefix and one.version.startswith(version_or_prefix)
        ]
        if not fitting:
            raise NotFound(
                f"the registry {self._url} has no {kind} whose version begins with {version_or_prefix!r:.40}"
            )
        if len(fitting) > 1:
            names = ", ".join(one.version for one in fitting[:5])
            raise Ambiguous(f"{len(fitting)} versions of {kind} begin with {version_or_prefix!r}: {names}")
        return fitting[0]

    def fetch(self, kind: Kind, version: str) -> Path:
        """Returns the local folder of weights, or file of an atlas, checked against the hashes of its manifest and for
        being that version. What is in the cache is served while a remote registry is away. Raises NotFound and Damaged.
        """
        if not IS_VERSION.fullmatch(version):
            raise NotFound(f"{version!r:.40} is no version: it has 16 hexadecimal digits")
        if self._kept is self._store:
            return self._checked(self.manifest(kind, version))
        if (found := self._cached(kind, version)) is not None:
            return found
        with self._kept.locked(kind):
            # Another process may have fetched it while we waited for the lock.
            if (found := self._cached(kind, version)) is not None:
                return found
            if self._kept.manifest(kind, version) is not None:
                log.warning("%s %s is damaged in the cache, and is fetched again", kind, version)
                self._kept.remove(kind, version)
            self._kept.clean(self._clock() - STALE_S)
            return self._fetched(self.manifest(kind, version))

    def decide(self, decision: Decision) -> None:
        """Adds a decision. Nothing changes or deletes one."""
        # The order of decisions is that of their names, so the time comes first, in digits to the year 9999.
        self._store.append(f"{decision.ts:015d}-{secrets.token_hex(4)}.json", dumps_decision(decision))

    def decisions(self) -> list[Decision]:
        """Returns all decisions, newest last. What cannot be read is none; it is logged."""
        found = []
        for name, raw in sorted(self._store.decisions().items()):
            try:
                found.append(loads_decision(raw))
            except (ValueError, RecursionError) as error:
                log.warning("%s: decision %s cannot be read: %s", self._url, name, error)
        return found

    def delete(self, kind: Kind, version: str, keep: Collection[str] = ()) -> None:
        """Deletes a version, its manifest first. Raises NotFound, and RegistryError for one that is in `keep`. Caches
        keep what they have."""
        if version in keep:
            raise RegistryError(f"{kind} {version} is in use, and is not deleted")
        if not IS_VERSION.fullmatch(version) or self._store.manifest(kind, version) is None:
            raise NotFound(f"the registry {self._url} has no {kind} of version {version!r:.40}")
        self._store.remove(kind, version)

    def clean(self) -> None:
        """Deletes what interrupted publications left more than a day ago. Each publication does that, too."""
        self._store.clean(self._clock() - STALE_S)

    # -- publishing ---------------------------------------------------------------------------------------------------

    def _publish(self, kind: Kind, sources: Mapping[str, Path | bytes], about: About) -> Manifest:
        with self._store.staging(kind) as stage:
            folder = stage / _FILES
            # Copied before they are looked at: what is hashed and checked is what is published.
            files = self._copied(sources, folder, kind)
            identity = weights_identity(folder) if kind == "weights" else atlas_identity(folder / "atlas")
            if kind == "atlas":
                (folder / "atlas").rename(folder / atlas_file(identity.version))
                files = {atlas_file(identity.version): files["atlas"]}
            manifest = self._stated(kind, identity, files, about)
            folder.rename(stage / manifest.content)
            return self._placed(manifest, stage)

    def _copied(self, sources: Mapping[str, Path | bytes], folder: Path, kind: Kind) -> dict[str, File]:
        folder.mkdir()
        files = {}
        for name, source in sources.items():
            if self._kept is self._store:
                failpoints.reach("before_file")
            parts = [source] if isinstance(source, bytes) else pieces(source)
            files[name] = write_file(parts, folder / name, MAX_BYTES[kind])
        return files

    def _stated(self, kind: Kind, identity: Identity, files: dict[str, File], about: About) -> Manifest:
        return Manifest(
            kind=kind,
            name=about.name or identity.name,
            version=identity.version,
            parent=about.parent,
            created_ts=round(self._clock() * 1000),
            content=content_of(files),
            files=files,
            command=about.command,
            seed=about.seed,
            program=installed("pathcast"),
            data=about.data,
            metrics=about.metrics,
            note=about.note,
        )

    def _placed(self, manifest: Manifest, stage: Path) -> Manifest:
        raw = dumps_manifest(manifest)
        if (existing := self._same(manifest)) is not None:
            return existing
        if not self._store.commit(manifest.kind, manifest.version, manifest.content, stage, raw):
            existing = self._same(manifest)
            if existing is None:
                raise RegistryError(
                    f"{manifest.kind} {manifest.version} was published and deleted meanwhile: try again"
                )
            return existing
        self.clean()
        return loads_manifest(raw, manifest.kind, manifest.version)

    def _same(self, manifest: Manifest) -> Manifest | None:
        """Returns the version as it exists. Raises Conflict if it has other files."""
        kind, version = manifest.kind, manifest.version
        raw = self._store.manifest(kind, version)
        if raw is None:
            return None
        existing = loads_manifest(raw, kind, version)
        either = existing.files.keys() | manifest.files.keys()
        other = [name for name in sorted(either) if existing.files.get(name) != manifest.files.get(name)]
        # What two processors make of the same weights may differ in the last digit.
        if other in ([], [GOLDEN]):
            return existing
        raise Conflict(
            f"{kind} {version} was published before, with another {', '.join(other)}: versions do not change"
        )

    # -- reading ------------------------------------------------------------------------------------------------------

    def _cached(self, kind: Kind, version: str) -> Path | None:
        raw = self._kept.manifest(kind, version)
        if raw is None:
            return None
        try:
            return self._checked(loads_manifest(raw, kind, version))
        except Damaged as error:
            log.debug("%s", error)
            return None

    def _checked(self, manifest: Manifest) -> Path:
        folder = self._kept.folder(manifest.kind, manifest.version, manifest.content)
        check_files(folder, manifest.files)
        check_identity(manifest.kind, manifest.version, folder)
        return folder if manifest.kind == "weights" else folder / atlas_file(manifest.version)

    def _fetched(self, manifest: Manifest) -> Path:
        kind, version, content = manifest.kind, manifest.version, manifest.content
        with self._kept.staging(kind) as stage:
            (stage / content).mkdir()
            for name, said in manifest.files.items():
                try:
                    parts = self._store.read(kind, version, content, name)
                    found = write_file(parts, stage / content / name, said.bytes)
                except FileNotFoundError as error:
                    raise Damaged(f"{kind} {version} in {self._url} has no {name}") from error
                except RegistryError as error:
                    raise Damaged(
                        f"{kind} {version} in {self._url}: {error}, and its manifest names as many"
                    ) from error
                if found != said:
                    raise Damaged(f"{name} of {kind} {version} in {self._url} is not what its manifest says")
                failpoints.reach("before_file")
            check_identity(kind, version, stage / content)
            self._kept.commit(kind, version, content, stage, dumps_manifest(manifest))
        return self._checked(manifest)


def _user_cache() -> Path:
    root = environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "pathcast" / "registry"
