"""Reads and writes checkpoints: a directory with model.safetensors, config.json and README.md (the model card).

`resolve` finds bundled weights by name (model/weights/<name>/, shipped in the wheel) or accepts a directory.
safetensors contains no code, so a file from a stranger can be wrong but not dangerous.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Final

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from model.config import FINGERPRINT_BYTES, ModelConfig
from model.network.network import Network, build

WEIGHTS_FILE: Final = "model.safetensors"
CONFIG_FILE: Final = "config.json"
CARD_FILE: Final = "README.md"
BUNDLED: Final = Path(__file__).parents[1] / "weights"
# Prefixes of the tensors stored in half precision, which is finer than their accuracy: the map is half of the file, and
# no forecast uses the other two.
HALVED: Final = ("trunk.places.table", "gap.", "travel.")
MAX_BYTES: Final = 1 << 30  # `base` has some 40 MB; more than 1 GiB is the wrong file
MAX_CONFIG_BYTES: Final = 64 * 1024
MAX_HEADER_BYTES: Final = 1 << 20  # header of the weights file: names, types and shapes; `base` has 10 KB


class WeightsError(ValueError):
    """The weights cannot be used: they are missing, truncated, of another shape, or not finite. The message is one
    clear line.
    """


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


def from_pretrained(weights: str | Path) -> Network:
    """Returns the network of a directory or bundled name, in eval mode. Raises WeightsError."""
    directory = resolve(weights)
    config = _read_config(directory / CONFIG_FILE)
    _check_size(directory / WEIGHTS_FILE, config)
    network = build(config, seed=0)
    expected = network.state_dict()
    tensors = _read_tensors(directory / WEIGHTS_FILE, expected)
    hint = "are they of another version of pathcast?"
    if tensors.keys() != expected.keys():
        odd = sorted(tensors.keys() ^ expected.keys())
        raise WeightsError(f"{directory / WEIGHTS_FILE}: tensors do not fit the config, e.g. {odd[0]:.80}: {hint}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            shapes = f"shape {list(tensor.shape)}, config needs {list(expected[name].shape)}"
            raise WeightsError(f"{directory / WEIGHTS_FILE}: {name} has {shapes}: {hint}")
        if tensor.dtype not in _types(expected[name]):
            types = f"numbers of type {tensor.dtype}, expected {expected[name].dtype}"
            raise WeightsError(f"{directory / WEIGHTS_FILE}: {name} has {types}")
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{directory / WEIGHTS_FILE}: {name} has values that are not finite numbers")
    network.load_state_dict(tensors)
    places = network.trunk.places
    if places is not None and bool((places.keys.diff() < 0).any()):
        raise WeightsError(f"{directory / WEIGHTS_FILE}: the map's cells are not in order, none of them would be found")
    return network.eval()


def save_pretrained(network: Network, directory: Path, card: str) -> None:
    """Writes the three files. Each appears whole or not at all; the config, which `resolve` looks for, comes last."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {name: _stored(name, tensor.detach()) for name, tensor in network.state_dict().items()}
    write_atomic(directory / WEIGHTS_FILE, safetensors.torch.save(tensors))
    write_atomic(directory / CARD_FILE, card.encode())
    write_atomic(directory / CONFIG_FILE, network.config.dumps().encode())


def _stored(name: str, tensor: Tensor) -> Tensor:
    return (tensor.half() if name.startswith(HALVED) else tensor).contiguous().cpu()


def fingerprint(network: Network) -> bytes:
    """Returns 8 bytes that change with any weight or constant, so that states and forecasts of different models never
    mix.
    """
    digest = blake2b(network.config.dumps().encode(), digest_size=FINGERPRINT_BYTES)
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()


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


def _read_config(path: Path) -> ModelConfig:
    try:
        return ModelConfig.loads(_read(path, MAX_CONFIG_BYTES).decode())
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: {error}") from error


def _check_size(path: Path, config: ModelConfig) -> None:
    """Checks that the file can hold this config's weights, before anything of their size is allocated. (Their shapes on
    torch's `meta` device would give the exact size, but need 4 s of imports.)
    """
    least = 2 * config.least_weights
    if path.is_file() and (size := path.stat().st_size) < least:
        raise WeightsError(f"{path}: {size:,} bytes, the config needs at least {least:,}: was the file cut short?")


def _types(expected: Tensor) -> tuple[torch.dtype, ...]:
    """Returns the dtypes that `save_pretrained` may have written for such a tensor."""
    return (torch.float32, torch.float16) if expected.is_floating_point() else (expected.dtype,)


def _read_tensors(path: Path, expected: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Returns the tensors of a file that is no larger than the expected tensors, and whose header is at most
    MAX_HEADER_BYTES.
    """
    try:
        most = MAX_HEADER_BYTES + sum(tensor.numel() * tensor.itemsize for tensor in expected.values())
        raw = _read(path, min(MAX_BYTES, most))
        header = int.from_bytes(raw[:8], "little")
        if header > MAX_HEADER_BYTES:
            raise ValueError(f"a header of {header:,} bytes, at most {MAX_HEADER_BYTES:,} are read")
        return safetensors.torch.load(raw)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
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
