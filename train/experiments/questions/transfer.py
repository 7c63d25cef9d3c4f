"""Trained on some regions, tested unchanged on another: does a model of motion transfer, and does one of
coordinates?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from stream.adapters.sources import parse
from train.batches.options import BatchOptions
from train.calibration import shrinkage
from train.data import synth
from train.evaluation.forecasts import ROAD, find_best_baseline
from train.experiments.lab.lab import Lab
from train.experiments.lab.report import Finding, Line, Picture, Table

STEPS: Final = 1_500  # of each of the eight trainings
# entities of `train.data.synth`: of all kinds, so that no region decides how long things continue
INVENTED: Final = 2_400
TOWNS: Final = "towns.parquet"
# of the error, mean of the regions: two models with one seed and a smaller difference are called equal
MARGIN: Final = 0.005
TICKS_S: Final = (2.0, 10.0, 60.0, 300.0, 900.0)
MOST_ANCHORS: Final = 40_000  # per region: every k-th of all of its tracks
REGIONS: Final = {
    "cabspotting_sf.parquet": "San Francisco",
    "geolife_labelled.parquet": "Beijing",
    "capmetro_austin_bus.parquet": "Austin",
    "gotrack_aracaju.parquet": "Aracaju",
}
# People in Beijing also walk and take trains; the evaluation is about roads.
MODES: Final = {"geolife_labelled.parquet": ROAD}
CRITERION: Final = ("60", "300", "900")  # horizons at which a release must be better than the physics
NORMALISED, HALFWAY, ABSOLUTE = "normalised", "halfway", "absolute"
TITLES: Final = {
    NORMALISED: "displacements only",
    HALFWAY: "displacements only, shrunk halfway to damped velocity",
    ABSOLUTE: "absolute coordinates",
}
# Equal weights, because nothing else decides: this is not the best share in any of these regions.
HALF: Final = 0.5
# Bends (train.batches.bends), invented towns and stretched time decide the error at 900 s: whether a thing continues
# (reports/notes/transfer.md). The clock and the reported values are mostly hidden, because they distinguish the
# training's regions and say nothing about another.
TRAVELLING: Final = BatchOptions(bend=1.0, drop_clock=0.6, drop_reported=0.6)
SETTLED: Final = BatchOptions(drop_place=0.0)  # rows keep their place, so they are not rotated, stretched or bent

QUESTION = (
    "Does what was learned in some regions hold in another that was never seen, and do displacements travel better "
    'than absolute coordinates? The tutorial "Building a Foundation Model for Trajectory from Scratch" (arXiv '
    "2511.20610) names transfer between regions as a next check, and deltas against absolute positions as open."
)
METHOD = (
    "Each region's file is left out in turn; the training tracks of all other files, and invented ones of towns that "
    "are nowhere (`pathcast train synth`), teach two models of the reference size, the same steps each: one that sees "
    "displacements only (normalised), turned, mirrored, stretched and bent at random, and one that also sees latitude "
    "and longitude as Fourier features at eight scales (absolute), whose rows keep their place, but for the invented "
    "ones, which have none. So the two differ in more than coordinates: only the first is turned, mirrored, stretched "
    "and bent, and it is shown the clock and what receivers report in 40 % of its rows, the other the clock in 70 % "
    "and reports in half. Which of these a difference between them comes from is not measured. "
    "A third is the normalised one shrunk halfway to damped velocity (`train.calibration.shrinkage`), the mean of "
    "both forecasts. "
    "Every k-th of ALL tracks of the left-out file is then walked "
    "ping by ping, as `pathcast evaluate` does (in Beijing those by car, taxi and bus), beside the physical "
    "baselines of the same config: stay, constant, damped and window velocity, Kalman and IMM, all with default "
    "noise, since to fit it would take tracks of the region. "
    "No track of a region stands behind its own judgement, but averages of San Francisco "
    "do: the invented taxis were shaped by how far and how fast its taxis get, and how long they keep a direction."
)


class Against(NamedTuple):
    """A model's mean error, and the 95 % interval, over entities, of its difference from the physics' error, case by
    case.
    """

    mean_m: float
    low_m: float
    high_m: float


@dataclass(frozen=True)
class RegionComparison:
    """One region and horizon: the models against the physics that is best there. Metres are means."""

    region: str
    horizon: str
    n: int
    dt_s: float  # median
    physics: str  # the best of all baselines, including the IMM: chosen afterwards, which favours it
    physics_m: float
    models: Mapping[str, Against]  # by the names of TITLES
    coverage_90: float  # of the normalised model

    def ratio(self, of: str) -> float:
        """Returns a model's error over the physics'; below 1 it is better."""
        return self.models[of].mean_m / self.physics_m

    def between(self, of: str) -> tuple[float, float]:
        """Returns the 95 % interval of that ratio, with the physics' error as a constant."""
        model = self.models[of]
        return 1 + model.low_m / self.physics_m, 1 + model.high_m / self.physics_m


def run(lab: Lab) -> Finding:
    left_out = find_regions(lab)
    for file in left_out:  # what cannot be evaluated is reported before hours of training
        lab.sample(file, "all", MODES.get(file, ()))
    towns = lab.scratch / TOWNS
    synth.write_towns(towns, entities=lab.steps(INVENTED))
    lab = replace(lab, data=(*lab.data, parse(towns)), most_anchors=MOST_ANCHORS)
    compared, strata = [], []
    for file, region in left_out.items():
        plain, absolute = (_judge(lab, file, variant) for variant in (NORMALISED, ABSOLUTE))
        compared += compare_models(region, plain | absolute)
        strata += ratios_by_stratum(region, plain[NORMALISED])
    columns = ("region", "stratum", *(f"{horizon} s" for horizon in CRITERION))
    by = Table("Error of the normalised model over that of the best physics there, by stratum", columns, strata, 2)
    return Finding(
        QUESTION,
        METHOD,
        [*_tables(compared), by],
        [_picture(compared, name) for name in TITLES],
        conclude(compared),
        (lab.seed,),
        [f"{lab.steps(STEPS):,} steps per model; rows of the normalised one are bent (`train.batches.augmentation`)"],
    )


def find_regions(lab: Lab) -> dict[str, str]:
    """Returns the regions among the lab's files. Raises ValueError where nothing would be left to train on."""
    present = {file.name: REGIONS[file.name] for file in lab.data if file.name in REGIONS}
    if not present or len(lab.data) < 2:
        raise ValueError(f"transfer needs two files, one of them among {', '.join(REGIONS)}")
    return present


def _judge(lab: Lab, file: str, variant: str) -> dict[str, dict[str, Any]]:
    """Returns the left-out file's scores of a model trained on all others; for the normalised one also those of
    halfway.
    """
    absolute = variant == ABSOLUTE
    batch = replace(SETTLED if absolute else TRAVELLING, invented=(TOWNS,))
    config = replace(lab.config, absolute=absolute)
    train = lab.splits(without=[file], invented=batch.invented).train
    name = f"transfer/{file.removesuffix('.parquet')}-{variant}"
    trained = lab.train(name, config, STEPS, train=train, batch=batch)
    sample = lab.sample(file, "all", MODES.get(file, ()))
    judged = {variant: lab.judge(trained, sample)}
    if not absolute:
        shrinkage.shrink(trained.network, HALF)
        judged[HALFWAY] = lab.judge(trained, sample)
    return judged


def compare_models(region: str, judged: dict[str, dict[str, Any]]) -> list[RegionComparison]:
    """Returns one row per horizon from evaluations at the same anchors, by model."""
    rows = []
    for horizon, block in judged[NORMALISED]["horizons"].items():
        physics = block["model_vs_best"]["baseline"]
        assert all(one["horizons"][horizon]["model_vs_best"]["baseline"] == physics for one in judged.values())
        rows.append(
            RegionComparison(
                region,
                horizon,
                block["n"],
                block["median_dt_s"],
                physics,
                block[physics]["mean_m"],
                {name: _against(judged[name]["horizons"][horizon]) for name in TITLES},
                block["model"]["coverage_90"],
            )
        )
    return rows


def _against(block: dict[str, Any]) -> Against:
    return Against(block["model"]["mean_m"], block["model_vs_best"]["low_m"], block["model_vs_best"]["high_m"])


def ratios_by_stratum(region: str, judged: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Returns the error over the best physics' in each stratum, by horizon; None where a stratum has no case."""
    blocks = [judged["horizons"].get(horizon, {"strata": {}})["strata"] for horizon in CRITERION]
    names = list(dict.fromkeys(name for block in blocks for name in block))
    return [(region, name, *(_share(block.get(name)) for block in blocks)) for name in names]


def _share(block: dict[str, Any] | None) -> float | None:
    if block is None:
        return None
    return float(block["model"]["mean_m"] / block[find_best_baseline(block)]["mean_m"])


def conclude(compared: Sequence[RegionComparison]) -> str:
    """Concludes whether the normalised model transfers, as it is and shrunk, and whether coordinates do."""
    judged = [row for row in compared if row.horizon in CRITERION]
    low, high = (f(row.coverage_90 for row in judged) for f in (min, max))
    return (
        f"At {', '.join(CRITERION[:-1])} and {CRITERION[-1]} s the normalised model "
        f"{_describe_travel(judged, NORMALISED)}, and its 90 % regions hold {100 * low:.0f} to {100 * high:.0f} %; "
        f"shrunk halfway to damped velocity it {_describe_travel(judged, HALFWAY)}. {_describe_next(compared)} "
        f"{_describe_coordinates(judged)}"
    )


def _describe_next(compared: Sequence[RegionComparison]) -> str:
    """Names the regions where the normalised model is significantly worse at the next ping, which is no criterion."""
    worse = [row for row in compared if row.horizon == "next" and row.models[NORMALISED].low_m > 0]
    where = ", ".join(f"in {row.region} ({100 * (row.ratio(NORMALISED) - 1):+.1f} %)" for row in worse)
    return f"At the next ping the normalised model is surely farther off than the best physics {where or 'nowhere'}."


def _describe_coordinates(judged: Sequence[RegionComparison]) -> str:
    """Concludes whether coordinates transfer better; in one word only where all horizons agree."""
    more, where = dict[str, float](), dict[str, list[str]]()  # by horizon; horizons by verdict
    for horizon in dict.fromkeys(row.horizon for row in judged):
        ratios = [row.ratio(ABSOLUTE) / row.ratio(NORMALISED) for row in judged if row.horizon == horizon]
        off = more[horizon] = sum(ratios) / len(ratios) - 1
        verdict = "worse" if off > MARGIN else "better" if off < -MARGIN else "neither better nor worse"
        where.setdefault(verdict, []).append(f"{horizon} s")
    if len(where) == 1:
        verdict = f"Absolute coordinates travel {next(iter(where))}"
    else:
        at = ", ".join(f"{verdict} at {' and '.join(horizons)}" for verdict, horizons in where.items())
        verdict = f"Whether absolute coordinates travel better depends on how far ahead: they are {at}"
    differ = ", ".join(f"{100 * off:+.1f} % ({horizon} s)" for horizon, off in more.items())
    farther = sum(row.ratio(ABSOLUTE) > row.ratio(NORMALISED) for row in judged)
    beaten = sum(row.ratio(ABSOLUTE) < 1 for row in judged)
    return (
        f"{verdict}. At equal steps, of one seed and with other augmentation, the errors differ from those of the "
        f"normalised model by {differ}, mean of the regions; they are larger in {farther} of {len(judged)} cases, and "
        f"below the physics' in {beaten}."
    )


def _describe_travel(judged: Sequence[RegionComparison], model: str) -> str:
    """Names the regions where that model is better than the physics, and how certain that is."""
    missed = [row for row in judged if row.ratio(model) >= 1]
    sure = sum(row.models[model].high_m < 0 for row in judged)
    surely = f"surely nearer, by the 95 % interval of the difference, in {sure} of {len(judged)} cases"
    if missed:
        where = ", ".join(f"{row.region} at {row.horizon} s ({100 * (row.ratio(model) - 1):+.1f} %)" for row in missed)
        return f"misses the best physics in {where} and is {surely}"
    worst = max(judged, key=lambda row: row.ratio(model))
    return (
        f"beats the best physics in each of {len({row.region for row in judged})} regions that it never saw, at every "
        f"horizon of {', '.join(CRITERION)} s, by at least {100 * (1 - worst.ratio(model)):.1f} % ({worst.region}, "
        f"{worst.horizon} s), {surely}"
    )


def _tables(compared: Sequence[RegionComparison]) -> list[Table]:
    """Returns the tables in metres and in percent of the physics."""
    metres, percent = list[tuple[Any, ...]](), list[tuple[Any, ...]]()
    for row in compared:
        at = (row.region, row.horizon if row.horizon == "next" else f"{row.horizon} s")
        means = (row.models[name].mean_m for name in TITLES)
        metres.append((*at, row.dt_s, row.n, row.physics, row.physics_m, *means))
        percent.append((*at, *(cell for name in TITLES for cell in _percent(row, name)), 100 * row.coverage_90))
    columns = ("region left out", "horizon")
    ahead = ("median ahead s", "cases", "best physics", "its mean m")
    sure = tuple(column for name in TITLES for column in (name, f"{name}, 95 % interval"))
    return [
        Table("Mean errors in regions never seen", (*columns, *ahead, *(f"{name} m" for name in TITLES)), metres),
        Table("Against the best physics, %", (*columns, *sure, "90 % region of normalised holds"), percent),
    ]


def _percent(row: RegionComparison, model: str) -> tuple[float, str]:
    return 100 * (row.ratio(model) - 1), " to ".join(f"{100 * (ratio - 1):.1f}" for ratio in row.between(model))


def _picture(compared: Sequence[RegionComparison], model: str) -> Picture:
    """Draws the errors over the physics', by time ahead."""
    lines = []
    for region in dict.fromkeys(row.region for row in compared):
        rows = sorted((row for row in compared if row.region == region), key=lambda row: row.dt_s)
        low, high = zip(*(row.between(model) for row in rows), strict=True)
        lines.append(Line(region, [row.dt_s for row in rows], [row.ratio(model) for row in rows], low, high))
    ends = [min(row.dt_s for row in compared), max(row.dt_s for row in compared)]
    lines.append(Line("best physics", ends, [1.0, 1.0], reference=True))
    title = f"Left out of training: {TITLES[model]}"
    return Picture(
        model, title, "median time ahead, s", "mean error over that of the best physics", lines, True, TICKS_S
    )
