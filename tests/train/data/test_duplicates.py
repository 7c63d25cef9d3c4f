"""What is one recording under two ids, and what only looks like it."""

from __future__ import annotations

import numpy as np
import pytest
from train_worlds import MakeCorpus, together, track, wander

from train.data import duplicates
from train.data.corpus import Corpus
from train.data.duplicates import find_copies


def copied(corpus: Corpus) -> set[str]:
    """Which of the others have what `seen` has, too."""
    seen = np.array([corpus.names[entity] == "seen" for entity in corpus.entity])
    return {corpus.names[entity] for entity in corpus.entity[find_copies(corpus, ~seen, seen)]}


def test_a_copy_is_known_by_a_tenth_of_its_pings(make_corpus: MakeCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "CHUNK", 7)
    seen, other = wander("seen", 40, 1), wander("other", 200, 2)
    later_s = [2_000.0 + 30 * i for i in range(200)]
    long = track("long", later_s, [10.0 * i for i in range(200)])
    parts = {
        "whole": seen,
        "half": {name: column[:20] for name, column in seen.items()},
        "nine": {name: column[:9] for name, column in seen.items()},
        "long": {name: [*seen[name][:15], *column] for name, column in long.items()},
        "other": other,
    }
    renamed = [columns | {"entity_id": [name] * len(columns["t"])} for name, columns in parts.items()]
    assert copied(make_corpus(together(seen, *renamed))) == {"whole", "half"}


def test_things_that_stand_in_one_depot_are_not_one(make_corpus: MakeCorpus) -> None:
    """All night, at one rounded place and whole minutes; and they leave at different times."""
    minutes = [60.0 * i for i in range(60)]
    stand = [0.0] * 50
    buses = [
        track(name, minutes, [*stand, *(speed * i for i in range(10))])
        for name, speed in (("seen", 500.0), ("b", 480.0))
    ]
    assert not copied(make_corpus(together(*buses)))


def test_a_place_at_another_time_is_no_copy(make_corpus: MakeCorpus) -> None:
    """A bus line is driven every day."""
    today = wander("seen", 60, 1)
    tomorrow = today | {"entity_id": ["b"] * 60, "t": [t + 86_400_000 for t in today["t"]]}
    assert not copied(make_corpus(together(today, tomorrow)))
