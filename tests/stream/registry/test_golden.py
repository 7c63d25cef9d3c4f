"""Golden forecasts accept the precisions that serve, and refuse weights that are damaged or others."""

from __future__ import annotations

from functools import partial

import msgspec
import numpy as np
import pytest

from model.api import FIX, Parameters, Predictor, StateCorrupt, load_weights
from model.serving.layers import Compiled, Exact
from stream.registry import Damaged, golden
from stream.registry.golden import LENGTH, Answers, ask, check_golden, invent_windows, loads_golden, make_golden

SERVED = ["float32", "int8"]


@pytest.fixture(scope="module", params=["small", "small-research"])
def published(request: pytest.FixtureRequest) -> tuple[Parameters, bytes]:
    return load_weights(request.param), make_golden(request.param)


def predictor(weights: Parameters, precision: str) -> Predictor:
    return Predictor(weights, name="tested", precision=precision)


def changed(weights: Parameters, change: object) -> Parameters:
    """The weights with every tensor of numbers changed by a function."""
    assert callable(change)
    tensors = {
        name: change(tensor).astype(np.float32) if tensor.dtype == np.float32 else tensor
        for name, tensor in weights.tensors.items()
    }
    return Parameters(weights.config, tensors)


@pytest.mark.parametrize("precision", SERVED)
def test_what_serves_gives_the_golden_forecasts(published: tuple[Parameters, bytes], precision: str) -> None:
    weights, raw = published
    found = predictor(weights, precision)
    kept = found.acquire(1)
    found.advance(kept, invent_windows()[0][:1])
    before = found.dumps(kept)
    assert check_golden(found, raw) is None
    assert found.dumps(kept) == before, "it disturbs who is served"
    assert found.acquire(1)[0] != kept[0]


def test_so_do_rounded_layers_of_a_processor_without_bfloat16(published: tuple[Parameters, bytes]) -> None:
    weights, raw = published
    found = predictor(weights, "int8")
    for layers in (Compiled(weights, halves=False), Exact(weights)):
        found._layers = layers
        assert check_golden(found, raw) is None


def test_answers_of_physics_are_refused_although_they_are_as_expected(
    published: tuple[Parameters, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, raw = published
    found = predictor(weights, "float32")
    answers = ask(found, [np.array(window, dtype=FIX) for window in loads_golden(raw).windows])
    for fallbacks, reason in ((0, None), (2, "2 golden forecasts are not finite numbers")):
        monkeypatch.setattr(golden, "ask", partial(_said, answers._replace(fallbacks=fallbacks)))
        assert check_golden(found, raw) == reason


def _said(answers: Answers, *of: object) -> Answers:
    return answers


@pytest.mark.parametrize("precision", SERVED)
@pytest.mark.parametrize("seed", range(4))
def test_one_percent_of_noise_is_refused(published: tuple[Parameters, bytes], precision: str, seed: int) -> None:
    weights, raw = published
    rng = np.random.default_rng(seed)
    noisy = changed(weights, lambda tensor: tensor * (1 + 0.01 * rng.standard_normal(tensor.shape)))
    reason = check_golden(predictor(noisy, precision), raw)
    assert reason is not None
    assert "deviate" in reason


@pytest.mark.parametrize("precision", SERVED)
def test_zeros_and_numbers_that_are_none_are_refused(published: tuple[Parameters, bytes], precision: str) -> None:
    weights, raw = published
    assert check_golden(predictor(changed(weights, np.zeros_like), precision), raw) is not None
    for name in _last_layers(weights):
        hurt = Parameters(weights.config, {**weights.tensors, name: weights.tensors[name] * np.float32(np.nan)})
        assert check_golden(predictor(hurt, precision), raw) is not None, name
    with pytest.raises(StateCorrupt):  # in the trunk, too: then no predictor comes to be
        predictor(changed(weights, lambda tensor: tensor * np.nan), precision)


@pytest.mark.parametrize("precision", SERVED)
def test_a_single_tensor_of_zeros_is_refused(published: tuple[Parameters, bytes], precision: str) -> None:
    """Each part of the network that speaks in forecasts or gap fills is asked."""
    weights, raw = published
    largest = max(
        (name for name in weights.tensors if name.startswith("trunk.") and weights.tensors[name].dtype == np.float32),
        key=lambda name: weights.tensors[name].ndim * 10**9 - weights.tensors[name].size,
    )
    for name in (largest, *_last_layers(weights)):
        hurt = Parameters(weights.config, {**weights.tensors, name: np.zeros_like(weights.tensors[name])})
        assert check_golden(predictor(hurt, precision), raw) is not None, name


def _last_layers(weights: Parameters) -> list[str]:
    parts = ("forecast.", "gap.", "interval.")
    return [max(n for n in weights.tensors if n.startswith(part) and weights.tensors[n].ndim == 2) for part in parts]


def test_other_weights_are_refused() -> None:
    raw = make_golden("small")
    assert check_golden(predictor(load_weights("small-research"), "int8"), raw) is not None


def test_windows_of_the_region_can_be_added_and_the_same_weights_give_the_same_file(weights: str) -> None:
    real = [window.copy() for window in invent_windows(seed=5)[:3]]
    raw = make_golden(weights, real)
    assert raw == make_golden(weights, real)
    assert len(golden.loads_golden(raw).windows) == len(invent_windows()) + 3
    assert check_golden(predictor(load_weights(weights), "float32"), raw) is None
    with pytest.raises(ValueError, match=f"at least {LENGTH}"):
        make_golden(weights, [np.zeros(3, FIX)])


def test_a_file_that_is_none_is_refused(weights: str) -> None:
    raw = make_golden(weights)
    stated = msgspec.json.decode(raw)
    found = predictor(load_weights(weights), "float32")
    first = stated["windows"][0]
    for spoilt in (
        b"",
        b"{}",
        b"[" * 100_000,
        b"x" * (5 << 20),
        msgspec.json.encode({**stated, "format": 2}),
        msgspec.json.encode({**stated, "rounded": 1e9}),
        msgspec.json.encode({**stated, "windows": []}),
        msgspec.json.encode({**stated, "windows": [first[:3]]}),
        msgspec.json.encode({**stated, "windows": [first[::-1]]}),
        msgspec.json.encode({**stated, "windows": [[[2**61, 2**61, 0, 0, 0]] * LENGTH]}),
        msgspec.json.encode({**stated, "places": stated["places"][:-1]}),
        msgspec.json.encode({**stated, "next_dt_s": []}),
    ):
        with pytest.raises(Damaged):
            check_golden(found, spoilt)
    # Numbers that cannot be: no division by zero, and no acceptance.
    for spoilt in ({"places": [[0.0] * 5] * len(stated["places"])}, {"next_dt_s": [0.0] * len(stated["next_dt_s"])}):
        with np.errstate(all="ignore"):
            assert check_golden(found, msgspec.json.encode({**stated, **spoilt})) is not None
