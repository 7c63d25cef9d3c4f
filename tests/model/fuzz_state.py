"""Any bytes as a state, whole and with a right checksum over them: refused by name, or good to go on from in finite
numbers. See tests/stream/fuzz/fuzzing.py, which it has to find:

    PYTHONPATH=tests/stream/fuzz python tests/model/fuzz_state.py 300
"""

from __future__ import annotations

import struct
from pathlib import Path
from zlib import crc32

import fuzzing
import numpy as np

CORPUS = Path(__file__).parent / "corpus" / "state"
WATCHED = {
    "model.serving.state_codec": "loads whole size _layout _sane _finite",
    "model.kinematics.motion": "possible",
    "model.serving.state_pool": "StatePool.loads",
    "model.serving.kv_cache": "KvCache.load",
}
T_MS = 1_700_000_000_000


def checker() -> fuzzing.Check:
    from model.api import FIX, Gap, ModelConfig, Predictor, StateError
    from model.network.checkpoint import to_parameters
    from model.serving import state_codec

    config = ModelConfig(name="tiny", d=16, blocks=2, heads=2, window=8)
    weights = to_parameters(_speaking(config))
    predictors = {p: Predictor(weights, name="tiny", capacity=2, precision=p) for p in state_codec.VERSIONS}
    fix = np.zeros(1, FIX)
    fix["ts_ms"], fix["lat_e7"], fix["lon_e7"], fix["speed_cms"], fix["heading_cdeg"] = T_MS, 3, 4, 500, 9_000

    def check(data: bytes) -> None:
        for precision, predictor in predictors.items():
            how = predictor.config, predictor.fingerprint, precision
            for blob in (data, sealed(data, state_codec.VERSIONS[precision], predictor.fingerprint)):
                try:
                    state = state_codec.loads(blob, *how)
                except StateError:
                    assert state_codec.whole([blob], *how) is None
                    continue
                assert state_codec.dumps(state, predictor.fingerprint) == blob
                assert state_codec.whole([blob], *how) is not None
                try_on(predictor, blob)

    def try_on(predictor: Predictor, blob: bytes) -> None:
        slots = predictor.acquire(2)
        try:
            predictor.advance(slots[:1], fix)
            before = predictor.dumps(slots[:1])
            try:
                predictor.loads(slots, [blob, before[0]])
            except StateError:
                assert predictor.dumps(slots[:1]) == before, "a refused state has changed a slot"
                return
            for _ in range(2):
                said = predictor.forecast(slots, (60.0, 900.0))
                no_places = said._replace(branch_lat=np.zeros(0), branch_lon=np.zeros(0))  # of branches, which are none
                assert all(np.isfinite(numbers).all() for numbers in no_places)
                assert (said.cov_m2[..., [0, 2]] >= 0).all()
                assert not said.fallback[1], "a state has spoilt another's"
                last = predictor.last(slots)
                later = fix.repeat(2)
                later["ts_ms"] = np.maximum(last["ts_ms"], T_MS) + 10_000
                predictor.advance(slots, later)
            ends = later[[0, 0]]
            ends["ts_ms"][1] += 60_000
            times_ms = ends["ts_ms"][0] + np.array([20_000, 40_000])
            filled = predictor.fill(slots[:1], [Gap(ends[:1], ends[1:], times_ms)])[0]
            assert all(np.isfinite(numbers).all() for numbers in filled[:3])
        finally:
            predictor.release(slots)

    return check


def _speaking(config):  # type: ignore[no-untyped-def]
    """Random weights everywhere: zero heads would hide what a state does."""
    import torch

    from model.network.network import build

    net = build(config, 1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in net.parameters():
            if not weights.any():
                weights.normal_(0.0, 0.05, generator=generator)
    return net


def sealed(data: bytes, version: int, fingerprint: bytes) -> bytes:
    """With magic, version, fingerprint and checksum right: as an intruder would."""
    if len(data) < 20:
        return data
    body = b"PCST" + struct.pack("<H", version) + data[6:8] + fingerprint + data[16:-4]
    return body + struct.pack("<I", crc32(body))


if __name__ == "__main__":
    fuzzing.run(checker, CORPUS, [f"{module}:{name}" for module, names in WATCHED.items() for name in names.split()])
