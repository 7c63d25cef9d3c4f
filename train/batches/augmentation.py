"""Random augmentation of the rows of a batch, so that a network learns motion and not the streets, people and receivers
of its training data.

Shapes: B rows, T tokens, ... any.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from model.kinematics.features import Context
from model.kinematics.geo import F64
from train.batches.options import BatchOptions

Mask = NDArray[np.bool_]


# ratios of a speed in km/h or knots that is read as m/s, or the reverse
UNITS: Final = (1 / 3.6, 1852 / 3600, 3600 / 1852, 3.6)


def misreport(rng: Generator, ctx: Context, chance: float) -> Context:
    """Returns the context [B, T] in which some receivers report wrongly, each in one way from its first ping to its
    last: speed 0 and course north, another unit, the values of one ping earlier, or a compass that is turned.
    """
    n = len(ctx.speed_mps)
    kind = np.where(rng.random(n) < chance, rng.integers(0, 4, n), -1)[:, None]
    unit, turn = rng.choice(UNITS, n)[:, None], rng.uniform(0.2, 2 * np.pi - 0.2, n)[:, None]
    speed, heading = ctx.speed_mps, ctx.heading_rad
    before = np.maximum(np.arange(speed.shape[1]) - 1, 0)
    return ctx._replace(
        speed_mps=np.select([kind == 0, kind == 1, kind == 2], [0 * speed, unit * speed, speed[:, before]], speed),
        heading_rad=np.select(
            [kind == 0, kind == 2, kind == 3], [0 * heading, heading[:, before], heading + turn], heading
        ),
    )


def hide(ctx: Context, hides: Mask) -> Context:
    """Returns the context [B, T] without the speed, heading and clock that `hides` [B, T, 3] marks."""
    return ctx._replace(
        speed_mps=np.where(hides[..., 0], np.nan, ctx.speed_mps),
        heading_rad=np.where(hides[..., 1], np.nan, ctx.heading_rad),
        phase_ms=np.where(hides[..., 2], -1, ctx.phase_ms),
    )


class Warp(NamedTuple):
    """The augmentation of each row: its geometry is rotated, mirrored, stretched and blurred, and parts of its context
    are hidden.
    """

    cos: F64  # B
    sin: F64
    mirror: F64  # ±1
    space: F64
    time: F64
    sigma_m: F64
    keep_speed: Mask
    keep_heading: Mask
    keep_clock: Mask
    angle: F64
    placed: Mask

    @classmethod
    def draw(cls, rng: Generator, o: BatchOptions, n: int, *, placed: Mask) -> Warp:
        """Draws the augmentation of n rows. `placed` marks rows that may show their place. A row that shows it keeps
        its shape, because a rotated street is another street.
        """
        stays = (rng.random(n) >= o.drop_place) & placed
        # Nothing is drawn where all rows are rotated, so that earlier seeds give the same batches.
        turned = ~stays if o.turn >= 1 else ~stays & (rng.random(n) < o.turn)
        angle = np.where(turned, rng.uniform(0, 2 * np.pi, n), 0.0)
        stretched = (rng.random(n) < o.rescale) & ~stays
        log_time = np.where(stretched, rng.uniform(np.log(o.least_time), np.log(o.most_time), n), 0.0)
        log_space = np.where(stretched, log_time + rng.normal(0, 0.25, n), 0.0)
        sigma = np.where(rng.random(n) < o.noise, np.exp(rng.uniform(np.log(1.0), np.log(12.0), n)), 0.0)
        return cls(
            np.cos(angle),
            np.sin(angle),
            np.where((rng.random(n) < 0.5) & turned, -1.0, 1.0),
            np.exp(log_space),
            np.exp(log_time),
            sigma,
            rng.random(n) >= o.drop_reported,
            rng.random(n) >= o.drop_reported,
            rng.random(n) >= o.drop_clock,
            angle,
            stays,
        )

    def turn(self, en: F64) -> F64:
        """Returns displacements [B, ..., 2] mirrored, rotated and stretched."""
        shape = (-1,) + (1,) * (en.ndim - 2)
        cos, sin, space = (v.reshape(shape) for v in (self.cos, self.sin, self.space))
        e, n = en[..., 0] * self.mirror.reshape(shape), en[..., 1]
        return np.stack([space * (cos * e - sin * n), space * (sin * e + cos * n)], axis=-1)

    def jitter(self, rng: Generator, valid: Mask) -> F64:
        """Returns the GPS noise [B, T, 2] of each token; the answers have none."""
        return rng.normal(0.0, 1.0, (*valid.shape, 2)) * self.sigma_m[:, None, None]

    def context(self, ctx: Context, turned: F64 | None = None) -> Context:
        """Returns the context [B, T] of the augmented row, whose track `bend` has already rotated counterclockwise by
        `turned` [B, T].
        """
        speed = ctx.speed_mps * (self.space / self.time)[:, None]
        heading = ctx.heading_rad if turned is None else ctx.heading_rad - turned
        heading = heading * self.mirror[:, None] - self.angle[:, None]
        return ctx._replace(
            phase_ms=np.where(self.keep_clock[:, None], ctx.phase_ms, -1),
            speed_mps=np.where(self.keep_speed[:, None], speed, np.nan),
            heading_rad=np.where(self.keep_heading[:, None], heading, np.nan),
            lat_deg=np.where(self.placed[:, None], ctx.lat_deg, np.nan),
            lon_deg=np.where(self.placed[:, None], ctx.lon_deg, np.nan),
        )
