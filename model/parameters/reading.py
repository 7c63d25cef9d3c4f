"""Reads checkpoints: a directory with model.safetensors, config.json and README.md (the model card).

`resolve` finds bundled weights by name (model/weights/<name>/, shipped in the wheel) or accepts a directory.
safetensors contains no code, so a file from a stranger can be wrong but not dangerous.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from model.config import FINGERPRINT_BYTES, ModelConfig
from model.parameters.shapes import KEYS, Shape, shapes

WEIGHTS_FILE: Final = "model.safetensors"
CONFIG_FILE: Final = "config.json"
CARD_FILE: Final = "README.md"
BUNDLED: Final = Path(__file__).parents[1] / "weights"
MAX_BYTES: Final = 1 << 30  # `small` has 2 MB; more than 1 GiB is the wrong file
MAX_CONFIG_BYTES: Final = 64 * 1024
MAX_HEADER_BYTES: Final = 1 << 20  # header of the weights file: names, types and shapes; `small` has 6 KB
# Files of earlier releases have tensors of two heads that there are no more, and nothing computes with either. Those
# of travel times still count in the version: states, forecasts and registries name it, so it must stay what it was.
# Those of atlases never counted.
FORMER: Final = ("travel.", "calibration.travel")
FORMER_UNCOUNTED: Final = ("atlas.",)

Tensors = Mapping[str, NDArray[Any]]  # float32, and int64 for the keys of a map


class WeightsError(ValueError):
    """The weights cannot be used: they are missing, truncated, of another shape, or not finite. The message is one
    clear line.
    """


@dataclass(frozen=True, eq=False)
class Parameters:
    """The weights of one model."""

    config: ModelConfig
    tensors: Tensors
    former: Tensors = field(default_factory=dict)  # those of FORMER, for the fingerprint alone

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.tensors[name]

    def fingerprint(self) -> bytes:
        """Returns 8 bytes that change with any weight or constant, so that states and forecasts of different models
        never mix.
        """
        digest = blake2b(self.config.dumps().encode(), digest_size=FINGERPRINT_BYTES)
        for name, tensor in sorted({**self.tensors, **self.former}.items()):
            digest.update(name.encode())
            digest.update(tensor.tobytes())
        return digest.digest()


def resolve(weights: str | Path) -> Path:
    """Returns the directory of a bundled name ("small") or of a path. Raises WeightsError."""
    path = Path(weights)
    if (path / CONFIG_FILE).is_file():
        return path
    bundled = BUNDLED / str(weights)
    # Only a plain name: "../x" must not leave the bundle.
    if path.name == str(weights) and (bundled / CONFIG_FILE).is_file():
        return bundled
    names = sorted(p.parent.name for p in BUNDLED.glob(f"*/{CONFIG_FILE}"))
    have = ", ".join(names) or "none"
    raise WeightsError(
        f"no weights at {str(weights)!r}: expected a directory with {CONFIG_FILE}, or a bundled name ({have})"
    )


def from_pretrained(weights: str | Path) -> Parameters:
    """Returns the weights of a directory or bundled name, for serving. Raises WeightsError."""
    directory, config = find_weights(weights)
    if (reason := config.not_servable()) is not None:
        raise WeightsError(f"{config.name!r} cannot be served: {reason}")
    return read_parameters(directory, config, shapes(config))


def find_weights(weights: str | Path) -> tuple[Path, ModelConfig]:
    """Returns the directory and the config of a bundled name or a path.

    Raises WeightsError, also if the file of weights cannot hold what the config asks for: before anything of that size
    is allocated.
    """
    directory = resolve(weights)
    path = directory / CONFIG_FILE
    try:
        config = ModelConfig.loads(_read(path, MAX_CONFIG_BYTES).decode())
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: {error}") from error
    path, least = directory / WEIGHTS_FILE, 2 * config.least_weights
    if path.is_file() and (size := path.stat().st_size) < least:
        raise WeightsError(f"{path}: {size:,} bytes, the config needs at least {least:,}: was the file cut short?")
    return directory, config


def read_parameters(directory: Path, config: ModelConfig, expected: Mapping[str, Shape]) -> Parameters:
    """Returns exactly the expected tensors, finite, and apart from them those of FORMER. Those that are stored in half
    precision are widened. Raises WeightsError.
    """
    path = directory / WEIGHTS_FILE
    found = {name: one for name, one in _load(path, expected).items() if not name.startswith(FORMER_UNCOUNTED)}
    former = {name for name in found if name.startswith(FORMER)}
    hint = "are they of another version of pathcast?"
    if found.keys() - former != expected.keys():
        odd = sorted((found.keys() - former) ^ expected.keys())
        raise WeightsError(f"{path}: tensors do not fit the config, e.g. {odd[0]:.80}: {hint}")
    for name, tensor in found.items():
        if name not in former and tensor.shape != expected[name]:
            shapes_ = f"shape {list(tensor.shape)}, config needs {list(expected[name])}"
            raise WeightsError(f"{path}: {name} has {shapes_}: {hint}")
        types = (np.int64,) if name == KEYS else (np.float32, np.float16)
        if tensor.dtype not in types:
            raise WeightsError(f"{path}: {name} has numbers of type {tensor.dtype}, expected {np.dtype(types[0])}")
        if not np.isfinite(tensor).all():
            raise WeightsError(f"{path}: {name} has values that are not finite numbers")
    if KEYS in found and (np.diff(found[KEYS]) < 0).any():
        raise WeightsError(f"{path}: the map's cells are not in order, none of them would be found")
    # Copies: arrays of a file cannot be written to, and numba would compile every kernel once more for them.
    wide = {name: one.astype(np.int64 if name == KEYS else np.float32) for name, one in found.items()}
    return Parameters(config, {name: wide[name] for name in expected}, {name: wide[name] for name in former})


def _load(path: Path, expected: Mapping[str, Shape]) -> Tensors:
    """Returns the tensors of a file that is at most twice as large as the expected tensors, for those of earlier
    heads, and whose header is at most MAX_HEADER_BYTES.
    """
    try:
        most = sum((8 if name == KEYS else 4) * math.prod(shape) for name, shape in expected.items())
        raw = _read(path, min(MAX_BYTES, MAX_HEADER_BYTES + 2 * most))
        header = int.from_bytes(raw[:8], "little")
        if header > MAX_HEADER_BYTES:
            raise ValueError(f"a header of {header:,} bytes, at most {MAX_HEADER_BYTES:,} are read")
        found: Tensors = safetensors.numpy.load(raw)
        return found
    except KeyError as error:  # numpy has no such numbers, and the library looks them up by name
        raise WeightsError(
            f"{path}: has numbers of type {error.args[0]!s:.20}, expected {np.dtype(np.float32)}"
        ) from error
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be read as safetensors: {' '.join(str(error).split()):.200}") from error


def _read(path: Path, most: int) -> bytes:
    """Reads a whole regular file. Raises ValueError for other files (a pipe or a device would never end) and for larger
    ones.
    """
    if not path.is_file():
        raise ValueError("not a file" if path.exists() else "there is no such file")
    with path.open("rb") as file:
        raw = file.read(most + 1)
    if len(raw) > most:
        raise ValueError(f"larger than the {most:,} bytes that it can need")
    return raw
