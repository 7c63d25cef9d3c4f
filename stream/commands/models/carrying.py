"""The commands that carry versions from one registry to another: `pathcast models export` and `import`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from stream.commands.models.showing import KindOption, VersionArgument, find, working
from stream.config.options import Json, RegistryCache, RegistryUrl
from stream.registry import KINDS, Manifest, Registry

TAR = ".tar"


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
    opened = Registry.open(registry, cache)
    manifest = find(opened, version, kind)
    with working(f"carrying {manifest.kind} {manifest.version}, {manifest.bytes / 1e6:,.1f} MB"):
        fetched = opened.fetch(manifest.kind, manifest.version)
        folder = fetched if manifest.kind == "weights" else fetched.parent
        if out.suffix == TAR:
            from stream.registry.archive import pack

            pack(manifest, folder, out)
        else:
            Registry.open(str(out)).adopt(manifest, folder)
    typer.echo(f"{manifest.kind} {manifest.version}, {manifest.bytes / 1e6:,.1f} MB in {out}")


def import_versions(
    source: Annotated[Path, typer.Argument(exists=True, help="a tar file of export, or the directory of a registry")],
    registry: RegistryUrl,
    as_json: Json = False,
) -> None:
    """Publish the versions of a tar file, or of another registry's directory, as they are stated there.

    Every file is checked against its manifest, and weights and atlases for being what they say. What exists already
    stays as it is. `pathcast models publish` is for weights that no registry has.
    """
    opened = Registry.open(registry)
    if source.is_dir():
        found = _all(Registry.open(str(source)), opened)
    else:
        from stream.registry.archive import unpack

        with tempfile.TemporaryDirectory(prefix="pathcast-import-") as folder:
            unpack(source, Path(folder))
            found = _all(Registry.open(folder), opened)
    if not found:
        raise ValueError(f"{source} has no version: expected what `pathcast models export` writes")
    if as_json:
        typer.echo(msgspec.json.encode(found))
        return
    for one in found:
        typer.echo(f"{one.kind} {one.version} ({one.name}), {one.bytes / 1e6:,.1f} MB")


def _all(source: Registry, target: Registry) -> list[Manifest]:
    found = []
    for kind in KINDS:
        for manifest in source.manifests(kind):
            with working(f"publishing {kind} {manifest.version}, {manifest.bytes / 1e6:,.1f} MB"):
                fetched = source.fetch(kind, manifest.version)
                found.append(target.adopt(manifest, fetched if kind == "weights" else fetched.parent))
    return found
