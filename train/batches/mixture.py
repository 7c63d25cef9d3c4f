"""The mixture of a corpus's files: how often each file is drawn into a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.kinematics.geo import F64
from train.batches.options import BatchOptions
from train.data.corpus import Corpus


def file_shares(corpus: Corpus, options: BatchOptions, *, packs: bool) -> F64:
    """Returns the chances of the files of the corpus. With `packs`, short tracks share rows.

    Raises ValueError where the options name a file that the corpus does not have or has twice, or a factor that is no
    positive number.
    """
    if unknown := set(options.invented) - set(corpus.files):
        raise ValueError(f"invented: no file {_listed(unknown)} to train on, there are {_listed(corpus.files)}")
    for name in options.invented:
        _check_one("invented", name, corpus.files)
    length = corpus.tracks[:, 1] - corpus.tracks[:, 0]
    pings = np.bincount(corpus.file, weights=length, minlength=len(corpus.files))
    typical = np.bincount(corpus.file, weights=length * length, minlength=len(pings)) / np.maximum(pings, 1.0)
    # A row that is mostly empty costs as much as a full one, so files of short tracks are drawn in proportion to how
    # full their rows are.
    full = 1.0 if packs else np.minimum(typical / options.tokens, 1.0)
    weight = np.where(pings > 0, pings**options.file_power, 0.0) * full * _factors(corpus.files, options.often)
    return np.asarray(weight / weight.sum())


def _factors(files: Sequence[str], often: Sequence[str]) -> F64:
    factors = np.ones(len(files))
    for given in often:
        name, _, factor = given.rpartition("=")
        if name not in files:
            raise ValueError(f"often: no file {name!r} to train on, there are {_listed(files)}")
        _check_one("often", name, files)
        try:
            factors[files.index(name)] = float(factor)
        except ValueError as error:
            raise ValueError(f"often: {factor!r} of {given!r} is no number") from error
    if not (np.isfinite(factors) & (factors > 0)).all():
        raise ValueError(f"often: factors must be above 0, got {_listed(often)}")
    return factors


def _check_one(option: str, name: str, files: Sequence[str]) -> None:
    if (count := files.count(name)) > 1:
        raise ValueError(f"{option}: {name} stands for {count} files of that name in different folders: rename one")


def _listed(names: Sequence[str] | set[str]) -> str:
    return ", ".join(sorted(names))
