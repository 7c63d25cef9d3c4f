"""Writes checkpoints. `model.parameters.reading` reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from model.files import write_whole
from model.parameters.reading import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, Parameters

# Prefixes of the tensors stored in half precision, which is finer than their accuracy: the map is half of the file, and
# no forecast uses the other.
HALVED: Final = ("trunk.places.table", "gap.")


def save(weights: Parameters, directory: Path, card: str) -> None:
    """Writes the three files. Each appears whole or not at all; the config, which `resolve` looks for, comes last."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {name: _as_stored(name, tensor) for name, tensor in weights.tensors.items()}
    write_whole(directory / WEIGHTS_FILE, [safetensors.numpy.save(tensors)])
    write_whole(directory / CARD_FILE, [card.encode()])
    write_whole(directory / CONFIG_FILE, [weights.config.dumps().encode()])


def _as_stored(name: str, tensor: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(tensor.astype(np.float16) if name.startswith(HALVED) else tensor)
