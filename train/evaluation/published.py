"""Reads the model's records as a subscriber does: at the real time of the next ping.

The evaluation asks the model for the real time. A subscriber cannot: it has a record, whose `next` is for the expected
time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.kinematics.geo import F64, haversine_m
from stream.wire import Anchor, Forecast, Horizon, Latency, ModelRef, NextStep, Src, Window
from stream.wire.positions import position
from train.data.anchors import Anchors
from train.data.corpus import Corpus
from train.evaluation.rollout import PublishedRecords

_UNASKED = (0.0, 0.0, 0.0)  # covariances, on which no position depends
_DEGREES = 7  # digits of published degrees


def read_errors_m(corpus: Corpus, anchors: Anchors, recorded: PublishedRecords) -> F64:
    """Returns the distance (A,) between the next ping and the position that the record gives for its time."""
    target = anchors.target[:, 0]
    read = [position(_record(corpus, anchors, recorded, i), float(anchors.dt_s[i, 0])) for i in range(len(target))]
    lat, lon = np.array(read).reshape(-1, 2).T
    return np.asarray(haversine_m(corpus.lat[target], corpus.lon[target], lat, lon))


def coverage_90(anchors: Anchors, recorded: PublishedRecords) -> float:
    """Returns the share of next pings that arrived inside the 90 % interval of their time."""
    came_s = anchors.dt_s[:, 0]
    return float(((recorded.early_s <= came_s) & (came_s <= recorded.late_s)).mean())


def _record(corpus: Corpus, anchors: Anchors, recorded: PublishedRecords, i: int) -> Forecast:
    row = anchors.row[i]
    anchor = Anchor(int(corpus.ts_ms[row]), _round_deg(corpus.lat[row]), _round_deg(corpus.lon[row]))
    lat, lon = recorded.lat[i], recorded.lon[i]
    step = NextStep(
        dt_s=round(float(recorded.at_s[i, 0]), 3),
        d_east_m=0.0,
        d_north_m=0.0,
        d_lat=_round_deg(lat[0] - anchor.lat),
        d_lon=_round_deg(lon[0] - anchor.lon),
        cov_m2=_UNASKED,
    )
    ahead = zip(recorded.at_s[i, 1:], lat[1:], lon[1:], strict=True)
    return Forecast(
        forecast_id="",
        entity_id="",
        anchor=anchor,
        next=step,
        horizons=tuple(Horizon(float(h_s), _round_deg(at), _round_deg(on), _UNASKED) for h_s, at, on in ahead),
        model=ModelRef("", ""),
        status="ok",
        window=Window(1, anchor.ts, anchor.ts),
        cache="hit",
        latency_ms=Latency(0.0, 0.0, 0.0),
        src=Src("", 0, 0),
    )


def _round_deg(degrees: Any) -> float:
    return round(float(degrees), _DEGREES)
