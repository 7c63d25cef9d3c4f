"""Reads a checkpoint as a network for training, and writes one. `model.parameters` has the formats and the checks."""

from __future__ import annotations

from pathlib import Path

import torch

from model.network.network import Network, build
from model.parameters.reading import Parameters, find_weights, read_parameters
from model.parameters.writing import save


def from_pretrained(weights: str | Path) -> Network:
    """Returns the network of a directory or bundled name, in eval mode. Raises WeightsError."""
    directory, config = find_weights(weights)
    network = build(config, seed=0)
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    tensors = read_parameters(directory, config, expected).tensors
    network.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()})
    return network.eval()


def save_pretrained(network: Network, directory: Path, card: str) -> None:
    """Writes model.safetensors, config.json and the model card."""
    save(to_parameters(network), directory, card)


def to_parameters(network: Network) -> Parameters:
    """Returns copies of the network's weights for a `Predictor`."""
    tensors = {name: tensor.detach().cpu().numpy().copy() for name, tensor in network.state_dict().items()}
    return Parameters(network.config, tensors)
