"""Lists the tensors that the weights of a config have, by the names that the network's modules give them.

`model.network` builds the same tensors; tests/model/parameters/test_shapes.py holds one to the other. Weights of
experiments that cannot be served have further ones (`ModelConfig.not_servable`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from model.config import ModelConfig
from model.kinematics import features, queries
from model.kinematics.answer_bounds import OUT
from model.kinematics.calibration_terms import FORECAST_TERMS, GAP_TERMS
from model.kinematics.map_cells import CELL_DIM, ZOOMS

Shape = tuple[int, ...]
KEYS: Final = "trunk.places.keys"  # int64; every other tensor has real numbers


def shapes(config: ModelConfig) -> dict[str, Shape]:
    """Returns the shape of each tensor of a model that can be served."""
    c = config.d
    found: dict[str, Shape] = {}
    found |= _linear("trunk.embed", features.width(config) - features.REPORTED, c)
    found |= _linear("trunk.report", features.REPORTED, c, bias=False)
    if config.places:
        found["trunk.places.table"], found[KEYS] = (config.places, CELL_DIM), (config.places,)
        found |= _linear("trunk.places.out", len(ZOOMS) * (CELL_DIM + 1), c)
    for block in range(config.blocks):
        found |= {f"trunk.blocks.{block}.{name}": shape for name, shape in _block(config)}
    found |= _norm("trunk.norm", c)
    others = queries.FORECAST_OTHERS
    found |= _query("forecast", c, queries.FORECAST_FEATURES, queries.REPORT_FEATURES, others - 1)
    found |= _linear("forecast.beside.from_hidden", c, c // 2)
    found |= _linear("forecast.beside.from_question", queries.FORECAST_FEATURES, c // 2, bias=False)
    found |= _linear("forecast.beside.last", c // 2, OUT + others)
    found |= _linear("interval.hidden", c, c // 2)
    found |= _linear("interval.recent", queries.INTERVAL_FEATURES, c // 2, bias=False)
    found |= _linear("interval.last", c // 2, 1 + queries.INTERVAL_OTHERS)
    found |= _query("gap", c, queries.GAP_FEATURES, queries.GAP_REPORT_FEATURES, queries.GAP_OTHERS)
    if config.places:
        found |= _linear("gap.from_place", c, 2 * c, bias=False) | _linear("gap.from_ends", 2 * c, 2 * c, bias=False)
        found |= _linear("gap.second.from_place", c, 2 * c, bias=False)
        found |= _linear("gap.second.from_answer", OUT + queries.GAP_OTHERS, 2 * c, bias=False)
        found |= _linear("gap.second.middle", 2 * c, c) | _linear("gap.second.last", c, OUT + queries.GAP_OTHERS)
    terms = {"forecast": FORECAST_TERMS, "gap": GAP_TERMS}
    return found | {f"calibration.{name}": (count,) for name, count in terms.items()}


def _block(config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    c, wide = config.d, config.mlp_ratio * config.d
    yield from _norm("norm_attention", c).items()
    yield from _linear("qkv", c, c + 2 * config.head_dim, bias=False).items()
    yield from _linear("out", c, c, bias=False).items()
    yield from _norm("norm_mlp", c).items()
    yield from _linear("up", c, wide).items()
    yield from _linear("down", wide, c).items()


def _query(name: str, c: int, question: int, reported: int, others: int) -> dict[str, Shape]:
    """Returns the tensors of a `model.network.heads.QueryHead`."""
    return (
        _linear(f"{name}.from_hidden", c, 2 * c)
        | _linear(f"{name}.from_question", question - reported, 2 * c, bias=False)
        | _linear(f"{name}.from_report", reported, 2 * c, bias=False)
        | _linear(f"{name}.middle", 2 * c, c)
        | _linear(f"{name}.last", c, OUT + others)
    )


def _linear(name: str, inputs: int, outputs: int, *, bias: bool = True) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs)} | ({f"{name}.bias": (outputs,)} if bias else {})


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
