"""The versions of weights that a world announces: networks of 16 numbers that differ in their seeds."""

from __future__ import annotations

from collections.abc import Set
from functools import lru_cache
from typing import Any, Final

from model.api import Predictor
from model.config import ModelConfig

TINY: Final = ModelConfig(name="tiny", d=16, blocks=1, heads=2, window=8)
NETWORKS: Final = 3  # beside the worker's own
absent: set[str] = set()  # versions whose files are not there at present: a world's own, and empty between two worlds


def make_predictor(kind: type[Predictor] = Predictor) -> Predictor:
    """Returns a worker's own network, whose states depend on every fix and on their order, and whose steps take some
    0.3 ms."""
    return kind.untrained(TINY, capacity=8)


@lru_cache(maxsize=1)
def list_versions() -> tuple[str, ...]:
    """Returns the versions, in the order in which a world counts them."""
    return tuple(Predictor.untrained(TINY, seed=seed, capacity=1).version for seed in range(1, NETWORKS + 1))


def load_network(version: str, kind: type[Predictor] = Predictor) -> Predictor:
    """Returns the network of a version. Raises OSError for one that is not there."""
    if version not in list_versions() or version in absent:
        raise FileNotFoundError(f"there are no weights {version}")
    return kind.untrained(TINY, seed=1 + list_versions().index(version), capacity=8)


def load_known(loaded: Any, registry: str, versions: Set[str], report: Any) -> None:
    """Stands for `Loaded.load` of `pathcast verify`."""
    loaded.networks += [load_network(one) for one in sorted(versions - loaded.index.keys()) if one in list_versions()]
