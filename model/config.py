"""The configuration of a model, as one frozen value: sizes and constants, no weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from typing import Final, Self

FINGERPRINT_BYTES: Final = 8
KINDS: Final = ("rope", "time-rope", "sinusoidal", "learned", "none")  # position encodings: model.network.transformer
MAX_LEARNED: Final = 512  # pings: as in GPT-2, the encoding ends with its table
MAX_PLACES: Final = 10_000_000  # 400 MB of weights; a larger number is a mistake
# Upper limits of the sizes: far above `small`, and small enough that a config alone, before any weights are read, takes
# neither memory nor time.
MOST: Final = {"d": 8_192, "blocks": 256, "window": 16_384, "mlp_ratio": 64, "patch": 1_024}
# pings that a served model may look back: each is 20 bytes in every entity's track and record
MAX_FIELD: Final = 16_384
MAX_INT: Final = 1 << 53  # for integers in JSON: a float holds no larger ones exactly
MAX_NAME_CHARS: Final = 64  # every forecast contains the name
TARGETS: Final = ("kalman", "delta", "absolute")


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the transformer and constants of its physics. The defaults are the reference size `small`.

    Raises ValueError for sizes that do not fit together.
    """

    name: str = "small"
    d: int = 128
    blocks: int = 2
    heads: int = 4
    kv_heads: int = 1  # always: all heads share one key and one value per token and block, so the cache stays small
    positions: str = "rope"  # one of KINDS
    patch: int = 1  # pings per token; above 1, the model answers once per patch and cannot be served
    window: int = 64  # pings a token attends to, itself included; the same in training and in serving
    mlp_ratio: int = 4
    # Off by default: a model with absolute inputs cannot move to another region, and rotation cannot augment it.
    absolute: bool = False
    places: int = (
        0  # map cells with learned vectors in the weights (model.network.places); 0: the model sees motion only
    )
    # Always 0, as `query_time` is always true and `kv_heads` always 1. Configs on disk have these fields, and the
    # version of weights is a hash of all fields. Only an experiment has a model whose answers are cells
    # (train.experiments.lab.cell_model).
    cells: int = 0
    # What the head's metres are added to. "kalman": the Kalman forecast; "delta": the last fix; "absolute": a fixed
    # origin, with the region's radius as the unit, which is useful only together with `absolute` inputs.
    target: str = "kalman"
    query_time: bool = True  # the head is asked for a time
    origin_lat_deg: float = 0.0  # origin of the target "absolute"
    origin_lon_deg: float = 0.0
    region_m: float = 10_000.0
    # The Kalman filter under the residual, an integrated Ornstein-Uhlenbeck process: see model.kinematics.motion.
    # time constant of the decay of a velocity; this and the next value were measured on tracks
    damping_s: float = 200.0
    accel_psd: float = 0.6  # spectral density of the acceleration noise, m²/s³
    fix_sigma_m: float = 5.0  # standard deviation of a GPS fix per axis
    start_speed_mps: float = 10.0  # standard deviation of the velocity per axis before the second fix

    def __post_init__(self) -> None:
        if self.positions not in KINDS:
            raise ValueError(f"positions must be one of {', '.join(KINDS)}, got {self.positions!r}")
        if self.target not in TARGETS:
            raise ValueError(f"target must be one of {', '.join(TARGETS)}, got {self.target!r}")
        if not 0 <= self.places <= MAX_PLACES:
            raise ValueError(f"places must be in 0..{MAX_PLACES:,}, got {self.places}")
        if self.cells:
            raise ValueError(
                f"cells must be 0, got {self.cells}: only `pathcast train experiment regions` trains such a model"
            )
        if self.kv_heads != 1:
            raise ValueError(f"kv_heads must be 1, got {self.kv_heads}: all heads share one key")
        if not self.query_time:
            raise ValueError("query_time must be true: the head is always asked for a time")
        if self.d < 1 or self.heads < 1 or self.d % self.heads or (self.d // self.heads) % 2:
            raise ValueError(f"d={self.d} must split into {self.heads} heads of even size")
        for name in ("blocks", "window", "mlp_ratio", "patch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name, most in MOST.items():
            if getattr(self, name) > most:
                raise ValueError(f"{name} must be at most {most:,}, got {getattr(self, name):,}")
        if not 0 < len(self.name) <= MAX_NAME_CHARS or not self.name.isprintable():
            raise ValueError(f"name must be 1 to {MAX_NAME_CHARS} printable characters, got {self.name[:80]!r}")
        if not (abs(self.origin_lat_deg) <= 90 and abs(self.origin_lon_deg) <= 180):
            raise ValueError(f"the origin must be on the globe, got {self.origin_lat_deg}, {self.origin_lon_deg}")
        for name in ("damping_s", "accel_psd", "fix_sigma_m", "start_speed_mps", "region_m"):
            if not 0 < getattr(self, name) < 1e6:
                raise ValueError(f"{name} must be positive and below 1e6, got {getattr(self, name)}")

    @property
    def head_dim(self) -> int:
        """Numbers of one head, and so of a token's key, and of its value, in each block."""
        return self.d // self.heads

    def not_servable(self) -> str | None:
        """Returns why the model cannot serve a stream ping by ping; None if it can."""
        if self.patch > 1:
            return f"a token is a patch of {self.patch} pings, and a forecast is due after each ping"
        if self.positions == "learned":
            return f"learned positions end at {MAX_LEARNED} pings, and a stream does not"
        if self.positions == "sinusoidal":
            return "sinusoidal positions count from a track's start, and a state is rebuilt from its last pings"
        if self.receptive_field > MAX_FIELD:
            return f"it looks back {self.receptive_field:,} pings, and a track keeps at most {MAX_FIELD:,} for it"
        return None

    @property
    def receptive_field(self) -> int:
        """The number of pings that can reach a token's hidden vector through the attention."""
        return 1 + self.blocks * (self.window - 1)

    @property
    def least_weights(self) -> int:
        """A lower bound of the number of weights: those that grow with two of the sizes, or with one that may be
        millions.
        """
        return (self.blocks * (2 + 2 * self.mlp_ratio) * self.d + self.patch) * self.d + 16 * self.places

    def dumps(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def loads(cls, text: str) -> Self:
        """Raises ValueError for anything except an object with exactly the fields of this class, of the right types."""
        try:
            raw = json.loads(text)
        except RecursionError:
            raise ValueError("JSON that nests deeper than any config") from None
        wanted = {field.name: type(field.default) for field in fields(cls)}
        if not isinstance(raw, dict) or raw.keys() != wanted.keys():
            raise ValueError(f"a model config has the fields {sorted(wanted)}")
        for name, kind in wanted.items():
            if type(raw[name]) is int and abs(raw[name]) > MAX_INT:
                raise ValueError(f"{name} has more digits than any size")
            if kind is float and type(raw[name]) is int:
                raw[name] = float(raw[name])
            if type(raw[name]) is not kind:
                raise ValueError(f"{name} must be {kind.__name__}, got {raw[name]!r:.80}")
        return cls(**raw)

    def fingerprint(self) -> bytes:
        return blake2b(self.dumps().encode(), digest_size=FINGERPRINT_BYTES).digest()


SMALL: Final = ModelConfig()
