"""Weights on disk: a directory with model.safetensors, config.json and README.md (the model card). Knows files only.

`resolve` finds bundled weights by name (model/weights/<name>/, shipped in the wheel) or takes a directory. safetensors
holds no code, so a stranger's file can be wrong but not dangerous.
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
from model.network import Network, build

WEIGHTS_FILE: Final = "model.safetensors"
CONFIG_FILE: Final = "config.json"
CARD_FILE: Final = "README.md"
BUNDLED: Final = Path(__file__).parent / "weights"
# Tensors kept in half precision, which is finer than what they know: the map is half of the file, and no forecast goes
# through the other two.
HALVED: Final = ("trunk.places.table", "gap.", "travel.")
MAX_BYTES: Final = 1 << 30  # `base` has some 40 MB; more than 1 GiB is the wrong file
MAX_CONFIG_BYTES: Final = 64 * 1024


class WeightsError(ValueError):
    """Weights that cannot be used: missing, truncated, of another shape, or not finite. One clear line."""


def resolve(weights: str | Path) -> Path:
    """The directory of a bundled name ("small") or of a path. Raises WeightsError."""
    path = Path(weights)
    if (path / CONFIG_FILE).is_file():
        return path
    bundled = BUNDLED / str(weights)
    # One plain name only: "../x" must not leave the bundle.
    if path.name == str(weights) and (bundled / CONFIG_FILE).is_file():
        return bundled
    names = sorted(p.parent.name for p in BUNDLED.glob(f"*/{CONFIG_FILE}"))
    have = ", ".join(names) or "none"
    raise WeightsError(
        f"no weights at {str(weights)!r}: expected a directory with {CONFIG_FILE}, or a bundled name ({have})"
    )


def from_pretrained(weights: str | Path) -> Network:
    """The network in a directory or bundled name, in eval mode. Raises WeightsError."""
    directory = resolve(weights)
    config = _read_config(directory / CONFIG_FILE)
    tensors = _read_tensors(directory / WEIGHTS_FILE)
    network = build(config, seed=0)
    expected = network.state_dict()
    if tensors.keys() != expected.keys():
        odd = sorted(tensors.keys() ^ expected.keys())
        raise WeightsError(f"{directory / WEIGHTS_FILE}: tensors do not fit the config, e.g. {odd[0]}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            shapes = f"shape {list(tensor.shape)}, config needs {list(expected[name].shape)}"
            raise WeightsError(f"{directory / WEIGHTS_FILE}: {name} has {shapes}")
        if tensor.is_floating_point() != expected[name].is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{directory / WEIGHTS_FILE}: {name} has values that are not finite numbers")
    network.load_state_dict(tensors)
    places = network.trunk.places
    if places is not None and bool((places.keys.diff() < 0).any()):
        raise WeightsError(f"{directory / WEIGHTS_FILE}: the map's cells are not in order, none of them would be found")
    return network.eval()


def save_pretrained(network: Network, directory: Path, card: str) -> None:
    """Write the three files; each appears whole or not at all, the config (which `resolve` looks for) last."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {name: _stored(name, tensor.detach()) for name, tensor in network.state_dict().items()}
    write_atomic(directory / WEIGHTS_FILE, safetensors.torch.save(tensors))
    write_atomic(directory / CARD_FILE, card.encode())
    write_atomic(directory / CONFIG_FILE, network.config.dumps().encode())


def _stored(name: str, tensor: Tensor) -> Tensor:
    return (tensor.half() if name.startswith(HALVED) else tensor).contiguous().cpu()


def fingerprint(network: Network) -> bytes:
    """8 bytes that change with any weight or constant: states and forecasts of different models never mix."""
    digest = blake2b(network.config.dumps().encode(), digest_size=FINGERPRINT_BYTES)
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()


def write_atomic(path: Path, data: bytes) -> None:
    """Write beside, then rename: a reader sees the old file or the new one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp gives 0600, but weights are for every reader
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read_config(path: Path) -> ModelConfig:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError(f"larger than {MAX_CONFIG_BYTES} bytes")
        return ModelConfig.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: {error}") from error


def _read_tensors(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES} bytes")
        return safetensors.torch.load(path.read_bytes())
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be read as safetensors: {error}") from error
