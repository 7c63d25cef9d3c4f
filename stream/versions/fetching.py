"""Fetches weights from a registry, and makes sure that they forecast here what they did where they were published."""

from __future__ import annotations

from pathlib import Path

from model.api import Predictor
from stream.registry import Registry
from stream.registry.golden import check_golden
from stream.registry.manifest import GOLDEN


def fetch_weights(registry: str, version: str, capacity: int, cache: Path | None = None) -> Predictor:
    """Raises OSError or ValueError if these weights are absent, damaged, or do not say what they said when they were
    published."""
    folder = Registry.open(registry, cache).fetch("weights", version)
    network = Predictor.load(folder, capacity=capacity)
    if network.version != version:
        raise ValueError(f"the weights in {registry} are version {network.version}")
    golden = folder / GOLDEN
    if golden.is_file() and (reason := check_golden(network, golden.read_bytes())) is not None:
        raise ValueError(reason)
    return network
