"""The tensors that serving expects are those that training has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from model.config import SMALL
from model.network.network import build
from model.parameters.shapes import shapes

WAYS: list[dict[str, Any]] = [
    {},
    {"places": 3000},
    {"absolute": True},
    {"blocks": 3, "mlp_ratio": 3},
    {"target": "delta"},
    {"positions": "none"},
]


@pytest.mark.parametrize("way", WAYS)
def test_the_weights_of_a_config_are_those_of_its_network(way: dict[str, Any]) -> None:
    config = replace(SMALL, d=32, **way)
    assert shapes(config) == {name: tuple(one.shape) for name, one in build(config, 0).state_dict().items()}
