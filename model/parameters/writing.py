"""Writes checkpoints. `model.parameters.reading` reads them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from model.parameters.reading import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, Parameters

# Prefixes of the tensors stored in half precision, which is finer than their accuracy: the map is half of the file, and
# no forecast uses the other.
HALVED: Final = ("trunk.places.table", "gap.")


def save(weights: Parameters, directory: Path, card: str) -> None:
    """Writes the three files. Each appears whole or not at all; the config, which `resolve` looks for, comes last."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {name: _stored(name, tensor) for name, tensor in weights.tensors.items()}
    write_atomic(directory / WEIGHTS_FILE, safetensors.numpy.save(tensors))
    write_atomic(directory / CARD_FILE, card.encode())
    write_atomic(directory / CONFIG_FILE, weights.config.dumps().encode())


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file beside the target, then renames it: a reader sees the old file or the new one. Raises OSError with
    the name of the file.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp gives 0600, but weights are for every reader
        Path(temporary).replace(path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # the error of a full disk has no file name
        raise


def _stored(name: str, tensor: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(tensor.astype(np.float16) if name.startswith(HALVED) else tensor)
