"""The commands that carry versions from one registry to another: `pathcast models export` and `import`."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from stream.config.options import Json, RegistryCache, RegistryUrl
from stream.models.showing import KindOption, VersionArgument, find, working
from stream.registry import KINDS, About, Data, Manifest, NotFound, Registry
from stream.registry.manifest import CONFIG, GOLDEN

TAR, ATLAS = ".tar", ".atlas"


def export(
    version: VersionArgument,
    registry: RegistryUrl,
    out: Annotated[Path, typer.Option("--out", help="a file that ends in .tar, or a directory: a registry of its own")],
    cache: RegistryCache = None,
    kind: KindOption = None,
) -> None:
    """Write a version and its manifest into a tar file, or into a directory that is then a registry, too.

    [bold]Examples[/]

      pathcast models export 3fa1 --registry s3://bucket/pathcast --out version.tar
      pathcast models import version.tar --registry /srv/pathcast
    """
    opened = Registry.opened(registry, cache)
    manifest = find(opened, version, kind)
    with working(f"carrying {manifest.kind} {manifest.version}, {manifest.bytes / 1e6:,.1f} MB"):
        fetched = opened.fetch(manifest.kind, manifest.version)
        folder = fetched if manifest.kind == "weights" else fetched.parent
        if out.suffix == TAR:
            from stream.registry.archive import pack

            pack(manifest, folder, out)
        else:
            Registry.opened(str(out)).adopt(manifest, folder)
    typer.echo(f"{manifest.kind} {manifest.version}, {manifest.bytes / 1e6:,.1f} MB in {out}")


def import_versions(
    source: Annotated[
        Path, typer.Argument(exists=True, help="what export wrote, a registry's directory, weights, or an atlas")
    ],
    registry: RegistryUrl,
    cache: RegistryCache = None,
    note: Annotated[str, typer.Option("--note", help="what is stated of weights or an atlas: one sentence")] = "",
    as_json: Json = False,
) -> None:
    """Publish the versions of a tar file, or of another registry's directory, as they are stated there. Or publish
    weights as `pathcast train` writes them, with golden forecasts made here, or the file of an atlas.

    Every file is checked against its manifest, and weights and atlases for being what they say. What exists already
    stays as it is.

    [bold]Examples[/]

      pathcast models import version.tar --registry s3://bucket/pathcast
      pathcast models import runs/austin --registry /srv/pathcast --note "buses of Austin, first try"
    """
    opened = Registry.opened(registry, cache)
    if (source / CONFIG).is_file():
        with working(f"publishing {source}"):
            found = [opened.publish_weights(source, About(note=note), _golden(opened, source))]
    elif source.suffix == ATLAS:
        with working(f"publishing {source}"):
            found = [opened.publish_atlas(source, About(note=note, data=_contents(source)))]
    elif note:
        raise typer.BadParameter("is for weights or an atlas: other versions have notes already", param_hint="--note")
    elif source.is_dir():
        found = _all(Registry.opened(str(source)), opened)
    else:
        from stream.registry.archive import unpack

        with tempfile.TemporaryDirectory(prefix="pathcast-import-") as folder:
            unpack(source, Path(folder))
            found = _all(Registry.opened(folder), opened)
    if not found:
        raise ValueError(f"{source} has no version: expected what `pathcast models export` or `pathcast train` writes")
    if as_json:
        typer.echo(msgspec.json.encode(found))
        return
    for one in found:
        typer.echo(f"{one.kind} {one.version} ({one.name}), {one.bytes / 1e6:,.1f} MB")


def _golden(registry: Registry, weights: Path) -> bytes | None:
    """Returns the golden forecasts to publish weights with: their own; those that they were published with before, as
    another processor's may differ in the last digit; or new ones."""
    from model.api import load_weights
    from stream.registry.golden import make_golden

    if (weights / GOLDEN).is_file():
        return None
    with suppress(NotFound):
        published = registry.fetch("weights", load_weights(weights).fingerprint().hex()) / GOLDEN
        return published.read_bytes() if published.is_file() else None
    return make_golden(weights)


def _contents(atlas: Path) -> Data:
    """Returns what an atlas says of the pings in it."""
    from model.api import Atlas

    said = Atlas.load(atlas).contains
    numbers = {name: said.get(key) for name, key in _CONTENTS.items()}
    return Data(**{name: number for name, number in numbers.items() if isinstance(number, int)})


_CONTENTS = {"pings": "pings", "entities": "entities", "from_ts": "from_ms", "to_ts": "to_ms"}


def _all(source: Registry, target: Registry) -> list[Manifest]:
    found = []
    for kind in KINDS:
        for manifest in source.manifests(kind):
            with working(f"publishing {kind} {manifest.version}, {manifest.bytes / 1e6:,.1f} MB"):
                fetched = source.fetch(kind, manifest.version)
                found.append(target.adopt(manifest, fetched if kind == "weights" else fetched.parent))
    return found
