"""Files that an experiment can make nothing of: each is refused in plain words, and before anything is trained."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from train_worlds import Columns, LabOf, MakeCorpus, fleet, together, track, wander

from train.experiments import cli
from train.experiments.lab.lab import Lab
from train.experiments.questions import autoencoder, masking, overfit, transfer

ONE_PING = together(*(track(f"car-{i}", [10.0 * i], [10.0 * i]) for i in range(30)))
PARKED = together(*(track(f"car-{i}", [30.0 * t for t in range(60)], [100.0 * i] * 60) for i in range(30)))
SHORT = fleet(40, 9)
TOWN = fleet(40, 60)


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*given: Any, **more: Any) -> Any:
        raise AssertionError("trained before it looked at what there is to judge")

    monkeypatch.setattr(Lab, "train", train)


@pytest.mark.parametrize("name", [name for name in cli.EXPERIMENTS if name != "transfer"])
@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (
            ONE_PING,
            "cars.*: (there is no track to train on|no path has 3 pings|no track in split (all|test)|no test track)",
        ),
        (PARKED, "cars.*: no track moves"),
    ],
    ids=["one ping", "parked"],
)
def test_what_cannot_be_learned_or_judged_is_said_plainly(
    name: str, columns: Columns, says: str, lab_of: LabOf
) -> None:
    """They once said "zero-size array to reduction operation maximum which has no identity", or had a traceback."""
    with pytest.raises(ValueError, match=says):
        importlib.import_module(f"train.experiments.questions.{name}").run(lab_of({"cars": columns}))


def test_transfer_looks_at_what_it_judges_before_it_trains(lab_of: LabOf) -> None:
    with pytest.raises(ValueError, match="no track moves"):
        transfer.run(lab_of({"cabspotting_sf": PARKED, "buses": TOWN}))
    with pytest.raises(ValueError, match="no track in split all is long enough"):
        transfer.run(lab_of({"cabspotting_sf": SHORT, "buses": TOWN}))


def test_masking_looks_for_gaps_and_trips_before_it_trains(lab_of: LabOf) -> None:
    yard = together(
        *(track(f"c{i}", [30.0 * t for t in range(60)], [float(t % 2) for t in range(60)]) for i in range(30))
    )
    with pytest.raises(ValueError, match="no track in split test is long enough"):
        masking.run(lab_of({"cars": yard}))
    with pytest.raises(ValueError, match="no test track has room for a gap to fill"):
        masking.run(lab_of({"brief": fleet(40, 10, name="car-")}))


def test_overfit_takes_a_track_that_goes_somewhere(make_corpus: MakeCorpus) -> None:
    with pytest.raises(ValueError, match="no training track has 10 pings"):
        overfit.choose_track(make_corpus(SHORT))
    still = [track(f"p{i}", [30.0 * t for t in range(60)], [100.0 * i] * 60) for i in range(3)]
    with pytest.raises(ValueError, match="half of the tracks of 60 pings stay at one place"):
        overfit.choose_track(make_corpus(together(wander("a", 60, 1), *still)))
    assert len(overfit.choose_track(make_corpus(together(fleet(3, 60), *still[:2])))) == 1


def test_a_part_that_is_lost_everywhere_has_no_error() -> None:
    """Of paths that never move twice in a row there is no turn, of which a median was taken."""
    part = autoencoder._component("deg", np.zeros(3), np.ones(3, bool))
    assert part.lost == 1
    assert autoencoder._parts({"turn": part}).rows == [("turn", "deg", "", "", "100.00")]
