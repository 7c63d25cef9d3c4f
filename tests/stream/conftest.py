"""How hypothesis runs here, a small network whose every part speaks, and an S3 server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from engine_rig import Rig
from hypothesis import HealthCheck, settings

from model.api import Predictor
from model.config import ModelConfig
from model.parameters.reading import Parameters
from model.parameters.untrained import untrained
from model.parameters.writing import save

# A busy machine is not a failure: no deadlines, and slow data generation is allowed. What fails prints its seed.
settings.register_profile("pathcast", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pathcast")

TINY = ModelConfig(name="tiny", d=16, blocks=2, heads=2, window=8)
SPREAD = 0.05  # of the heads' last layers: enough for metres of difference, little enough to stay finite


def speaking(seed: int) -> Parameters:
    """Random weights everywhere. Untrained heads are zero, and would hide any fault of the states behind them."""
    weights, rng = untrained(TINY, seed), np.random.default_rng(seed)
    for name, tensor in weights.tensors.items():
        if not tensor.any() and not name.startswith("calibration."):
            tensor[...] = SPREAD * rng.standard_normal(tensor.shape)
    return weights


@pytest.fixture(scope="session")
def fuzzed_inputs(pytestconfig: pytest.Config) -> int:
    """Returns how many changed messages a reader gets in one test: with --all as many as a search for faults needs."""
    return 10_000 if pytestconfig.getoption("--all", default=False) else 500


@pytest.fixture(scope="session")
def make_predictor() -> Callable[..., Predictor]:
    """A fresh predictor; the same seed is the same model, of whatever kind."""
    return lambda seed=1, kind=Predictor: kind(speaking(seed), name=f"tiny-{seed}", capacity=4)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The directory of the weights of `make_predictor`."""
    directory = tmp_path_factory.mktemp("weights")
    save(speaking(1), directory, "A tiny model for tests.")
    return str(directory)


@pytest.fixture
def rig(make_predictor: Callable[[], Predictor]) -> Rig:
    return Rig(make_predictor)


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of a bucket of a real S3 server, which this process and those that it starts find by the environment."""
    from registry_rig import BUCKET, CREDENTIALS, s3_server

    with s3_server() as endpoint, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": endpoint}.items():
            patch.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem().mkdir(BUCKET)
        yield f"s3://{BUCKET}"
