"""Draws a report of forecasts: error against horizon, reliability, and three real tracks.

matplotlib comes with the extra `pictures` and is imported only when a picture is requested. The colours are those of
Okabe and Ito, which people who confuse red and green can tell apart; the marks differ too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from model.kinematics.features import steps_between
from model.kinematics.filters import FITTED, KALMAN
from model.kinematics.geo import F64, displacement_m, haversine_m, to_e7
from train.data import anchors as anchoring
from train.data.anchors import Anchors
from train.data.corpus import Corpus
from train.evaluation.atlas import ATLAS, BESIDE, PHYSICS
from train.evaluation.forecasts import JudgedForecasts, Sample
from train.evaluation.rollout import MODEL, Answers

PAST: Final = 12  # pings drawn before the anchor
SHARE_90: Final = float(np.sqrt(-2 * np.log(0.1)))  # half axes of the 90 % ellipse, in standard deviations
DODGE: Final = 1.02  # factor between predictors' marks, so that their intervals can be distinguished
FAR_M: Final = 300.0  # a moving example travels at least this far in the second-longest horizon
STYLE: Final = {  # colour and mark of each predictor: Okabe & Ito 2008
    MODEL: ("#0072B2", "o"),
    FITTED: ("#D55E00", "s"),
    KALMAN: ("#E69F00", "D"),
    "imm": ("#CC79A7", "v"),
    "imm_fitted": ("#AA4499", "1"),  # Tol's purple
    "trees": ("#009E73", "P"),
    "constant_velocity": ("#56B4E9", "^"),
    "damped_velocity": ("#882255", "<"),  # Tol's wine: Okabe and Ito's yellow is hard to see on white
    "window_velocity": ("#999999", ">"),
    "reported_velocity": ("#332288", "*"),  # Tol's indigo
    "stay": ("#000000", "x"),
    ATLAS: ("#117733", "h"),
    BESIDE: ("#44AA99", "p"),  # Tol's teal  # Tol's green
}
CURVES: Final = ("#000000", "#0072B2", "#56B4E9", "#009E73")  # colours of the learning curve, nearest horizon first
NOTES: Final = ("#0072B2", "#56B4E9", "#009E73")  # colours of the ellipses, nearest horizon first


def draw_report(path: Path, sample: Sample, report: dict[str, Any], judged: JudgedForecasts, model: str) -> None:
    """Writes the picture; the suffix of `path` (.png, .svg, .pdf) chooses its format.

    Raises ValueError where matplotlib is missing.
    """
    figure, axes = _figure(curve="learning" in report)
    names = [name for name in STYLE if name in judged.answers]
    _draw_errors(axes[0], report["horizons"], names)
    _draw_reliability(axes[1], report["horizons"], names)
    drawn = MODEL if MODEL in judged.answers else (FITTED if FITTED in judged.answers else KALMAN)
    if "learning" in report:
        _draw_learning(axes.pop(), report["learning"])
    for axis, (doing, index) in zip(axes[2:], find_examples(sample.corpus, judged, drawn).items(), strict=True):
        if index is None:
            axis.set_title(f"{doing}: no example", loc="left")
            axis.set_axis_off()
        else:
            _draw_track(axis, sample.corpus, judged.anchors, judged.answers[drawn], index)
            axis.set_title(f"{doing}: {drawn}, 90 % regions", loc="left")
    figure.suptitle(
        f"{report['file']}, split {report['split']}: {report['anchors']:,} forecasts; {model}", x=0.01, ha="left"
    )
    figure.savefig(path, dpi=130)


def require_matplotlib() -> Any:
    """Returns matplotlib's Figure. Raises ValueError that says what to install."""
    try:
        from matplotlib.figure import Figure  # not pyplot: it would open a window system
    except ImportError as error:
        raise ValueError(
            "pictures need matplotlib, which comes with the extra: pip install 'pathcast[pictures]'"
        ) from error
    return Figure


def picture_paths(path: Path, files: Sequence[str]) -> list[Path]:
    """Returns the path of each file's picture: for several files it contains the file's stem, and its number if two
    stems are alike.

    Stems are compared without case, as on some disks; and then all are numbered, because a stem may look like another's
    number.
    """
    if len(files) == 1:
        return [path]
    stems = [Path(file).stem for file in files]
    if len({stem.casefold() for stem in stems}) < len(stems):
        stems = [f"{number}-{stem}" for number, stem in enumerate(stems, start=1)]
    return [path.with_stem(f"{path.stem}-{stem}") for stem in stems]


def _figure(*, curve: bool = False) -> tuple[Any, list[Any]]:
    """Returns the figure and its axes; with `curve`, one more at the end, below all others."""
    figure = require_matplotlib()(figsize=(13, 13.5 if curve else 9.5), layout="constrained")
    grid = figure.add_gridspec(3 if curve else 2, 6, height_ratios=(1, 1.05, 0.9)[: 3 if curve else 2], wspace=0.08)
    axes = [figure.add_subplot(grid[0, :3]), figure.add_subplot(grid[0, 3:])]
    axes += [figure.add_subplot(grid[1, 2 * i : 2 * i + 2]) for i in range(3)]
    axes += [figure.add_subplot(grid[2, :])] if curve else []
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.set_axisbelow(True)
    return figure, axes


def _draw_errors(axis: Any, horizons: dict[str, Any], names: list[str]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    at_s = [block["median_dt_s"] for block in horizons.values()]
    order = np.argsort(at_s)
    for number, name in enumerate(names):
        scores = [list(horizons.values())[i][name] for i in order]
        mean = np.array([score["mean_m"] for score in scores])
        low, high = (np.array([score[end] for score in scores]) for end in ("mean_low_m", "mean_high_m"))
        colour, mark = STYLE[name]
        axis.errorbar(
            np.array(at_s)[order] * DODGE ** (number - len(names) / 2),
            mean,
            yerr=np.maximum([mean - low, high - mean], 0),
            label=name,
            color=colour,
            marker=mark,
            markersize=6 if name == MODEL else 5,
            linewidth=2.4 if name == MODEL else 1.1,
            capsize=3,
            zorder=3 if name == MODEL else 2,
        )
    axis.set_xscale("log")
    # Parked things may be forecast without any error, for which there is no logarithm.
    if all(block[name]["mean_m"] > 0 for block in horizons.values() for name in names):
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xticks([1, 10, 60, 300, 900], ["1 s", "10 s", "1 min", "5 min", "15 min"])
    axis.set_xticks([], minor=True)
    low, high = min(at_s), max(at_s)
    axis.set_xlim(low / 1.4, high * 1.4)
    axis.yaxis.set_major_formatter(lambda metres, _: f"{metres:,.0f}" if metres >= 1 else f"{metres:g}")
    axis.set_xlabel("horizon")
    axis.set_ylabel("mean error (m)")
    axis.set_title("Error against horizon, with 95 % intervals by entity", loc="left")
    axis.legend(frameon=False, fontsize=9)


def _draw_learning(axis: Any, curves: dict[str, Any]) -> None:
    """Draws the atlas's errors as parts of those of damped velocity, by hours of the fleet's history."""
    for colour, (name, rows) in zip(CURVES, ((name, rows) for name, rows in curves.items() if rows), strict=False):
        drawn = BESIDE if BESIDE in rows[0]["mean_m"] else ATLAS
        ratios = [row["mean_m"][drawn] / row["mean_m"][PHYSICS] for row in rows]
        middles = [np.sqrt(max(row["from_h"], 0.5) * row["to_h"]) for row in rows]
        label = name if name == "next" else f"{name} s"
        axis.plot(middles, ratios, color=colour, marker="h", linewidth=1.8, label=label)
    axis.axhline(1.0, color="#777777", linewidth=1, linestyle=":")
    axis.set_xscale("log")
    axis.set_ylim(0, None)
    axis.set_xlabel("hours of the fleet's history")
    axis.set_ylabel(f"error / {PHYSICS}")
    axis.set_title("what the fleet's own pings are worth", loc="left")
    axis.legend(frameon=False)


def _draw_reliability(axis: Any, horizons: dict[str, Any], names: list[str]) -> None:
    axis.plot([0, 100], [0, 100], color="#555555", linewidth=1, linestyle=":")
    axis.text(33, 30, "as promised", ha="left", va="top", color="#555555", fontsize=9)
    shown = [name for name in (MODEL, FITTED, KALMAN) if name in names][:2]
    lines = ("-", "--", "-.", (0, (1, 1)))
    for name in shown:
        for line, (horizon, block) in zip(lines, horizons.items(), strict=False):
            observed = block["reliability"]["observed"].get(name)
            if observed is not None:
                nominal = 100 * np.array(block["reliability"]["nominal"])
                label = f"{name}, {horizon if horizon == 'next' else f'{horizon} s'}"
                colour, mark = STYLE[name]
                axis.plot(
                    nominal,
                    100 * np.array(observed),
                    color=colour,
                    linestyle=line,
                    marker=mark,
                    markersize=3,
                    label=label,
                )
    axis.set_xlim(0, 100)
    axis.set_ylim(0, 100)
    axis.set_xlabel("share that the region should hold (%)")
    axis.set_ylabel("share that it held (%)")
    axis.set_title("Reliability", loc="left")
    axis.legend(frameon=False, fontsize=9, loc="lower right")


def find_examples(corpus: Corpus, judged: JudgedForecasts, name: str) -> dict[str, int | None]:
    """Returns, for each kind of motion, the anchor whose error in the second-longest horizon is the median: a typical
    example, not the best. Anchors must have all their targets, and moving ones must travel FAR_M.
    """
    anchors, answer = judged.anchors, judged.answers[name]
    column = max(1, anchors.target.shape[1] - 2)
    whole = (anchors.target >= 0).all(axis=1)
    target = np.where(whole, anchors.target[:, column], anchors.row)
    lat, lon = np.asarray(corpus.lat[target]), np.asarray(corpus.lon[target])
    error = haversine_m(lat, lon, answer.lat[:, column], answer.lon[:, column])
    far = haversine_m(lat, lon, corpus.lat[anchors.row], corpus.lon[anchors.row]) >= FAR_M
    out: dict[str, int | None] = {}
    for doing, mask in anchoring.motion_strata(corpus, anchors).items():
        fit = np.flatnonzero(mask & whole & (far | (doing == "stopped")))
        out[doing] = int(fit[np.argsort(error[fit], kind="stable")[len(fit) // 2]]) if len(fit) else None
    return out


def _draw_track(axis: Any, corpus: Corpus, anchors: Anchors, answer: Answers, index: int) -> None:
    from matplotlib.patches import Ellipse

    row, targets = int(anchors.row[index]), anchors.target[index]
    first = max(int(corpus.tracks[anchors.track[index], 0]), row - PAST)
    past, future = (
        _to_metres(corpus, row, np.arange(first, row + 1)),
        _to_metres(corpus, row, np.arange(row, targets.max() + 1)),
    )
    axis.plot(*past.T, color="#999999", linewidth=1.4, marker="o", markersize=3, label="past pings")
    axis.plot(*future.T, color="#000000", linewidth=1.2, label="what happened")
    for colour, column in zip(NOTES, range(1, len(targets)), strict=False):
        there = to_e7(answer.lat[index, column]), to_e7(answer.lon[index, column])
        mean = displacement_m(to_e7(corpus.lat[row]), to_e7(corpus.lon[row]), *there)
        truth = _to_metres(corpus, row, targets[column : column + 1])[0]
        label = f"forecast in {anchors.dt_s[index, column]:,.0f} s"
        # nearer horizons lie above farther ones
        near = {"color": colour, "markeredgewidth": 2, "linestyle": "none", "zorder": 4 - column / 10}
        axis.plot(*mean, marker="+", markersize=9, label=label, **near)
        axis.plot(*truth, marker="o", markersize=7, markerfacecolor="none", **near)
        axis.plot(*np.stack([mean, truth]).T, color=colour, linewidth=0.8, linestyle=":")
        if answer.cov_m2 is not None:
            width, height, angle = ellipse(answer.cov_m2[index, column])
            region = Ellipse((mean[0], mean[1]), width, height, angle=angle, facecolor=(colour, 0.13), edgecolor=colour)
            axis.add_patch(region)
    axis.plot([], [], color="#000000", marker="o", markerfacecolor="white", linestyle="none", label="where it then was")
    # Small, because the nearest forecast may lie within a few pixels of it.
    axis.plot(0, 0, color="#000000", marker="o", markersize=4, linestyle="none", label="now")
    axis.set_aspect("equal", adjustable="datalim")
    axis.margins(0.06)
    axis.set_xlabel("east of now (m)")
    axis.set_ylabel("north of now (m)")
    axis.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)


def ellipse(cov_m2: F64) -> tuple[float, float, float]:
    """Returns width, height and angle (degrees) of the 90 % region."""
    ee, en, nn = cov_m2
    values, vectors = np.linalg.eigh(np.array([[ee, en], [en, nn]]))
    width, height = 2 * SHARE_90 * np.sqrt(np.maximum(values[::-1], 0.0))
    return float(width), float(height), float(np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])))


def _to_metres(corpus: Corpus, anchor: int, rows: Any) -> F64:
    at = np.broadcast_to(corpus.fixes(np.array([anchor])), len(rows))
    return steps_between(at, corpus.fixes(rows))[1]
