"""Lets processes keep their compiled kernels in a folder of their own, apart from those that the user has."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from stream.bench.harness import launch


class CachedKernels(NamedTuple):
    """The compiled functions in a folder, one per set of types, and the bytes of all files there."""

    functions: int
    size_bytes: int


def keeping(folder: Path) -> dict[str, str]:
    """Returns the environment of a process that keeps its kernels in this folder, and loads no others: numba prefers
    NUMBA_CACHE_DIR to the folders beside the sources and in the user's cache."""
    return {**launch.environment(), "NUMBA_CACHE_DIR": str(folder)}


def cached_kernels(folder: Path) -> CachedKernels:
    """Returns what is kept in a folder. Raises RuntimeError if there are no kernels: then what ran with it has compiled
    none, or has kept them elsewhere."""
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    functions = sum(path.suffix == ".nbc" for path in sizes)  # .nbi are numba's indexes of them
    if not functions:
        raise RuntimeError(f"no kernels are kept in {folder}: does numba heed NUMBA_CACHE_DIR?")
    return CachedKernels(functions, sum(sizes.values()))
