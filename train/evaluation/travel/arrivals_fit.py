"""`python -m train.evaluation.travel.arrivals_fit FILE...`: fits the coefficients of `model.arrivals.times` to the
train splits of these files, and prints what `model/arrivals/fitted.py` holds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer

from model.api import Predictor
from model.arrivals.passages import Like
from model.arrivals.times import BUNDLED, FLOOR_S, LEVELS, alone, with_passages
from model.kinematics.geo import F64
from train.data.anchors import find
from train.data.splits import held_back
from train.evaluation.forecasts import Sample, open_samples
from train.evaluation.rollout import walk
from train.evaluation.travel.arrivals import MOST_HISTORY, history_of, known_of, questions
from train.quantile_regression import fit_line

MOST_ANCHORS = 12_000  # of a file


class Terms(NamedTuple):
    """What one file's questions are fitted by."""

    alone: F64  # (N, 3)
    log_s: F64  # (N,)
    with_passages: F64  # (M, 7), those of which passages are known
    known_log_s: F64  # (M,)


def terms_of(sample: Sample, predictor: Predictor, most_history: int = MOST_HISTORY) -> Terms:
    """Returns the terms of a sample's questions."""
    corpus = sample.corpus
    anchors = find(corpus)
    walked = walk(corpus, anchors, [], predictor, recorded=True)
    asked = questions(corpus, anchors)
    assert sample.fleet is not None  # set by open_samples
    history = history_of(sample.fleet.select(~held_back(sample.fleet)), most_history)
    known = known_of(corpus, anchors, walked, asked, history)
    log_s = np.log(asked.seconds + FLOOR_S)
    has = np.array([one is not None for one in known.like])
    some: list[Like] = [one for one in known.like if one is not None]
    both = with_passages(asked.distance_m[has], known.path_s[has], some) if some else np.empty((0, 7))
    return Terms(alone(asked.distance_m, known.path_s), log_s, both, log_s[has])


def fitted(parts: list[tuple[F64, F64]]) -> F64:
    """Returns the coefficients, a row for each level. A part (terms, log_s) counts by the root of its length, so that a
    large file does not decide alone.
    """
    terms, log_s = (np.concatenate(column) for column in zip(*parts, strict=True))
    weight = np.concatenate([np.full(len(one), max(len(one), 1) ** -0.5) for _, one in parts])
    return np.array([fit_line(terms, log_s, float(level), weight) for level in LEVELS])


def main(
    data: Annotated[list[Path], typer.Argument(help="Parquet or CSV, as of `pathcast train`")],
    weights: Annotated[str, typer.Option("--weights")] = "small",
    out: Annotated[Path | None, typer.Option("--out", help="JSON for `pathcast arrivals run --fitted`")] = None,
) -> None:
    predictor, found = Predictor.load(weights), []
    for file in data:
        (sample,) = open_samples([file], "train", most=MOST_ANCHORS)
        found.append(terms_of(sample, predictor))
        one = found[-1]
        typer.echo(
            f"{file.name}: {len(one.log_s):,} questions, of {len(one.known_log_s):,} passages are known", err=True
        )
    parts = {"ALONE": [(one.alone, one.log_s) for one in found]}
    parts["WITH_PASSAGES"] = [(one.with_passages, one.known_log_s) for one in found if len(one.known_log_s) > 200]
    if out is not None:
        numbers = {"with_passages": BUNDLED.with_passages.tolist()}  # where hardly any are known
        numbers |= {name.lower(): fitted(some).tolist() for name, some in parts.items() if some}
        out.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
        return
    for name, some in parts.items():
        rows = ",\n".join("    (" + ", ".join(f"{number:.4f}" for number in row) + ")" for row in fitted(some))
        typer.echo(f"{name}: Final = (\n{rows},\n)")


if __name__ == "__main__":
    typer.run(main)
