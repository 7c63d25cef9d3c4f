"""Keeps versions of weights and of atlases, and decisions about them, in a directory or behind a URL of fsspec.

Start with `registry.Registry`. A version never changes, shows whole or not at all, and is checked when it is fetched.

    registry   Registry: publish, list, fetch, decide, delete
    manifest   what is stated of a version, and the bounds that a stranger's manifest is held to
    decisions  decisions about versions, the standing of each by them, and which may be deleted
    golden     a few windows with their forecasts, by which a worker sees that weights forecast here as they should
    content    the files of a version: hashes, and what they are
    store      versions in a folder: one rename; in an object store: files first, then the manifest
    archive    versions as one tar file

A local registry needs neither fsspec nor Arrow nor torch.
"""

from stream.registry.decisions import Decision, standings
from stream.registry.manifest import (
    KINDS,
    About,
    Ambiguous,
    Conflict,
    Damaged,
    Data,
    File,
    Kind,
    Manifest,
    NotFound,
    RegistryError,
)
from stream.registry.registry import Registry

__all__ = [
    "KINDS",
    "About",
    "Ambiguous",
    "Conflict",
    "Damaged",
    "Data",
    "Decision",
    "File",
    "Kind",
    "Manifest",
    "NotFound",
    "Registry",
    "RegistryError",
    "standings",
]
