"""The shared parts of every experiment: data, short trainings that are evaluated alike, seeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from model.api import Predictor
from model.config import ModelConfig
from model.network.checkpoint import to_parameters
from model.network.network import Network
from stream.adapters.sources import Source
from train.batches.options import BatchOptions, FitOptions
from train.data.corpus import Corpus, load
from train.data.splits import Splits, is_held_back, split
from train.evaluation.forecasts import Sample, SplitPart, judge_forecasts, open_samples
from train.fit.trainer import Tick, fit

Say = Callable[[str], None]

# For trainings of a few hundred steps.
SHORT: dict[str, Any] = {"warmup": 50}


@dataclass(frozen=True)
class Lab:
    """The settings of one session: which files, how long each training may be, where it works. `say` shows progress."""

    data: tuple[Source, ...]
    scratch: Path  # weights of the variants; may be deleted afterwards
    effort: float = 1.0  # factor on the steps of an experiment: below 1 only for a trial run
    seed: int = 0
    threads: int = 1
    cache: Path | None = None
    most_anchors: int = 10_000  # per file in an evaluation
    say: Say = lambda line: None
    config: ModelConfig = field(default_factory=ModelConfig)

    def splits(self, *, without: Sequence[str] = (), invented: Sequence[str] = ()) -> Splits:
        """Returns train, validation and test of all files except those named in `without`; all of `invented` trains.

        Raises ValueError where no track is left to train on, and where none of them moves.
        """
        whole = split(load(self.data, self.cache), invented=invented)  # one cache for every choice of files
        parts = (whole.train, whole.val, whole.test, whole.copies)
        train, val, test, copies = (part.select(~part.of_files(without)) for part in parts)
        names = ", ".join(file.name for file in self.data if file.name not in without)
        if not len(train):
            raise ValueError(f"{names}: there is no track to train on, which takes two pings without a long silence")
        require_moving(train, names)
        unread = whole.final.select(np.zeros(len(whole.final), bool))  # no experiment reads the final split
        return Splits(train, val, test, whole.fingerprint, copies, unread)

    def choose_named(self, names: Mapping[str, str]) -> dict[str, str]:
        """Returns the names of those files that `names` contains; if it contains none, all files with their own
        titles.
        """
        found = {file.name: names[file.name] for file in self.data if file.name in names}
        return found or {file.name: file.title for file in self.data}

    def file(self, name: str) -> Source:
        """Returns the file of that name."""
        return next(file for file in self.data if file.name == name)

    def file_or_first(self, name: str) -> Source:
        """Returns the file of that name, or the first where that is not given."""
        return next((file for file in self.data if file.name == name), self.data[0])

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the repetitions of one training: their differences are noise."""
        return (self.seed, self.seed + 1)

    def steps(self, full: int) -> int:
        return max(2, round(full * self.effort))

    def train(
        self,
        name: str,
        config: ModelConfig,
        steps: int,
        *,
        train: Corpus,
        val: Corpus | None = None,
        batch: BatchOptions | None = None,
        options: dict[str, Any] | None = None,
        seed: int | None = None,
        validations: int = 8,
    ) -> TrainedVariant:
        """Trains one variant from random weights for `steps` times the effort. The same seed gives the same batches for
        all variants.
        """
        fit_options = FitOptions(
            out=self.scratch / name,
            steps=self.steps(steps),
            seed=self.seed if seed is None else seed,
            threads=self.threads,
            validate_every=max(1, self.steps(steps) // validations),
            batch=batch or BatchOptions(),
            **(options or {}),
        )
        started, ticks, norms = time.process_time(), [0.0], list[float]()

        def watch(tick: Tick) -> None:
            norms.append(tick.gradient_norm)
            if tick.validation is not None or tick.step == tick.total or time.monotonic() - ticks[-1] > 30:
                ticks.append(time.monotonic())
                self.say(f"{name}: step {tick.step:,} of {tick.total or 0:,}, loss {tick.loss:.3f}")

        report = fit(train, val, replace(config, name=name.replace("/", "-")), fit_options, resume=False, watch=watch)
        spent = time.process_time() - started
        return TrainedVariant(name, report.network, report.losses, report.validations, spent, report.steps, norms)

    def sample(self, file: str, part: SplitPart = "test", modes: Sequence[str] = ()) -> Sample:
        """Returns the tracks of one file to evaluate; "all" is all except the final split, because experiments lead to
        choices. Raises ValueError where there is nothing, or nothing that moves.
        """
        found, most = [self.file(file)], self.most_anchors
        (sample,) = open_samples(found, part, cache_dir=self.cache, most=most, modes=modes)
        if part == "all":
            sample = replace(sample, corpus=sample.corpus.select(~is_held_back(sample.corpus)))
        require_moving(sample.corpus, sample.file)
        return sample

    def judge(self, trained: TrainedVariant, sample: Sample) -> dict[str, Any]:
        """`train.evaluation.forecasts.judge_forecasts` for weights that can be served."""
        return judge_forecasts(sample, Predictor(to_parameters(trained.network), name=trained.name))


def require_moving(corpus: Corpus, what: str) -> None:
    """Raises ValueError where no track moves: such tracks teach nothing, and every forecast of them has no error."""
    if all(np.ptp(column[first:last]) == 0 for first, last in corpus.tracks for column in (corpus.lat, corpus.lon)):
        raise ValueError(f"{what}: no track moves, each stays at one place: are coordinates rounded, or things parked?")


@dataclass(frozen=True)
class TrainedVariant:
    """A variant after its training."""

    name: str
    network: Network
    losses: list[float]  # of every step
    validations: list[tuple[int, dict[str, float]]]  # step, losses by name (train.fit.loss.Losses)
    cpu_s: float
    steps: int
    gradient_norms: list[float]  # of every step, before clipping
