"""How should the spread of a forecast be described: by one Gaussian, one t, a mixture with things that stay, or
quantiles?
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.kinematics import queries
from model.kinematics.answer_bounds import OUT
from model.kinematics.geo import F64
from model.kinematics.queries import Question
from model.network.checkpoint import from_pretrained
from model.network.heads import Asked, combine
from model.network.network import Network, asked
from train.batches.batches import Batch, Batches
from train.batches.options import BatchOptions, FitOptions
from train.data.corpus import Corpus
from train.experiments.lab import distributions, seeds, windows
from train.experiments.lab import full_pass as ex
from train.experiments.lab.distributions import FORMS, Given
from train.experiments.lab.full_pass import Exam
from train.experiments.lab.lab import SHORT, Lab
from train.experiments.lab.report import Finding, Line, Picture, Table, cells
from train.fit.trainer import learning_rate

WEIGHTS: Final = "small"
STEPS: Final = 1_000
BATCH: Final = BatchOptions()
MOST_ANCHORS: Final = 10_000  # per file
FILES: Final = {
    "cabspotting_sf.parquet": "taxis, 60 s",
    "geolife_labelled.parquet": "people, 2 s",
    "capmetro_austin_bus.parquet": "buses, 120 s",
    "ais_noaa_us.parquet": "ships, 60 s",
}
LEFT_OUT: Final = "cabspotting_sf.parquet"  # evaluated also with heads that were not trained on it

SERVED: Final = f"{distributions.T}, told as a Gaussian"
# way: the form of its head, and the quantiles from its numbers
WAYS: Final[dict[str, tuple[str, Callable[[Tensor, Given], Tensor]]]] = {
    SERVED: (distributions.T, distributions.gaussian_quantiles),
    **{name: (name, form.quantiles) for name, form in FORMS.items()},
}
ALL, OTHERS = "all files", "the others"

QUESTION = (
    "A forecast is one Student's t, told as its covariance. Would a mixture with a narrow component for what stays "
    "where it is, or quantiles, say better how far off it may be? And what does a subscriber lose who is told a "
    "covariance and takes it for a Gaussian's? The tutorial (arXiv 2511.20610) answers points, and says nothing of how "
    "sure they are."
)
METHOD = (
    f"The network of {WEIGHTS} stays as it is. Beside it, a head for each form learns the spread from the same hidden "
    "vectors, questions and answers, step by step from the same batches: one covariance wider or narrower, by the "
    "likelihood of a Gaussian or of a t with 4 degrees of freedom, which leave the points where they are; two t, one "
    "around the last fix, with a share of its own, and one on the way to the point or beyond it; ten quantiles along "
    "and ten across the motion, by their pinball loss, whose middle may move, too. All are judged on the test split by "
    "the same proper score, which all of them can be asked for: the pinball loss of those quantiles, along and across, "
    "which is about the sum of the two CRPS, in metres. Nothing is calibrated afterwards. The taxis, which the network "
    "itself never saw, are also judged with heads that learned from the other files alone."
)


class Seen(NamedTuple):
    """The network's answers to N questions."""

    inputs: Tensor  # (N, I) inputs of a head
    given: Given
    target_en: Tensor  # (N, 2) m from the anchor


# some of an exam's questions: the indices (N,) of their ex.COLUMNS, and the answers
Judged = tuple[NDArray[np.int64], Seen]


@dataclass(frozen=True)
class Row:
    """One form, trained on some files with one seed, evaluated on one file; by ex.COLUMNS, NaN for none."""

    learned: str
    data: str
    way: str
    seed: int
    score_m: tuple[float, ...]
    held: tuple[float, ...]  # coverage of the central 90 %, mean of both directions
    length_m: tuple[float, ...]  # length of these 90 %, the mean of both directions


def run(lab: Lab) -> Finding:
    if len(lab.data) < 2:
        raise ValueError("spreads needs two files: one is judged by heads that learned from the others alone")
    torch.set_num_threads(lab.threads)
    network = from_pretrained(WEIGHTS).eval().requires_grad_(False)
    files = lab.named(FILES)
    left_out = LEFT_OUT if LEFT_OUT in files else next(iter(files))
    exams = {
        name: list(_of_exam(network, ex.ask(ex.judged_tracks(lab, lab.file(name), MOST_ANCHORS)))) for name in files
    }
    rows: list[Row] = []
    learning = ((ALL, lab.splits().train, list(files)), (OTHERS, lab.splits(without=[left_out]).train, [left_out]))
    for learned, train, judged in learning:
        for seed in lab.seeds:
            heads = _learn(lab, network, train, learned, seed)
            for file in judged:
                rows += _judge(exams[file], heads, learned, files[file], seed)
    return Finding(
        QUESTION,
        METHOD,
        [_scores(rows), _intervals(rows)],
        [_picture(rows)],
        conclude(rows),
        lab.seeds,
        [f"{lab.steps(STEPS):,} steps of each head; {left_out} is the file that is left out"],
    )


def conclude(rows: Sequence[Row]) -> str:
    """Two sentences: how the forms compare on files of the training, and whether that holds on others."""
    seen, unseen = (_over_files(rows, learned) for learned in (ALL, OTHERS))
    best = seeds.best(seen)
    where = [
        f"{seeds.mean(ratios):.3f} for {data}"
        for (learned, data, way), ratios in _ratios(rows).items()
        if (learned, way) == (ALL, best)
    ]
    return (
        f"Over all files {_verdict(seen)} how far off a forecast may be: scores are those of {SERVED} times "
        f"{_each(seen)}; by file those of {best} {', '.join(where)}. In a region that neither the network nor a head "
        f"has seen {_verdict(unseen)}: {_each(unseen)}."
    )


def _verdict(ratios: Mapping[str, Sequence[float]]) -> str:
    """Says which form is better than the t, by more than seed noise."""
    rival = _rival(ratios)
    if seeds.gain(ratios, rival, distributions.T) <= _chance(ratios):
        return f"nothing tells better than {distributions.T}"
    return f"{rival} tell{'s' * (rival != distributions.QUANTILES)} best"


def _each(ratios: Mapping[str, Sequence[float]]) -> str:
    each = ", ".join(f"{seeds.mean(ratios[way]):.3f} ({way})" for way in WAYS if way != SERVED)
    between = f"between {distributions.T} and {_rival(ratios)}"
    return f"{each}; up to {100 * _chance(ratios):.1f} % {between} may be a seed's luck"


def _rival(ratios: Mapping[str, Sequence[float]]) -> str:
    """Returns the best of the other forms that could be served instead of the t."""
    return seeds.best({way: by_seed for way, by_seed in ratios.items() if way not in (SERVED, distributions.T)})


def _chance(ratios: Mapping[str, Sequence[float]]) -> float:
    """Returns the seed noise of these two forms alone: a form that varies much between seeds, such as a Gaussian's
    likelihood or the mixture for ships, would increase the noise of all.
    """
    return seeds.noise({way: ratios[way] for way in (distributions.T, _rival(ratios))})


def _ratios(rows: Sequence[Row]) -> dict[tuple[str, str, str], list[float]]:
    """Returns by training files, evaluated file and form, and by seed, the score over that of SERVED, mean of the
    horizons.
    """
    served = {(row.learned, row.data, row.seed): np.array(row.score_m) for row in rows if row.way == SERVED}
    out: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        share = np.array(row.score_m) / served[row.learned, row.data, row.seed]
        out.setdefault((row.learned, row.data, row.way), []).append(ex.geometric_mean(share.tolist()))
    return out


def _over_files(rows: Sequence[Row], learned: str) -> dict[str, list[float]]:
    """Returns for each form, by seed, the mean of the files' ratios."""
    ratios = [(way, by_seed) for (of, _, way), by_seed in _ratios(rows).items() if of == learned]
    return {way: np.exp(np.log([own for of, own in ratios if of == way]).mean(0)).tolist() for way in WAYS}


def head(network: Network, numbers: int) -> nn.Sequential:
    """Returns a head of that many numbers, zero before training."""
    d = network.config.d
    inputs = d + queries.FORECAST_FEATURES + OUT + queries.FORECAST_OTHERS  # `_seen` concatenates them
    last = nn.Linear(d, numbers)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, 2 * d), nn.GELU(), nn.Linear(2 * d, d), nn.GELU(), last)


def _learn(lab: Lab, network: Network, train: Corpus, learned: str, seed: int) -> dict[str, nn.Sequential]:
    """Trains one head of each form, all on the same batches."""
    steps = lab.steps(STEPS)
    options = FitOptions(out=lab.scratch, steps=steps, seed=seed, batch=BATCH, **SHORT)
    batches = Batches(train, network.config, BATCH, seed)
    with torch.random.fork_rng(devices=[]):
        heads = {}
        for name, form in FORMS.items():
            torch.manual_seed(seed)
            heads[name] = head(network, form.numbers)
    movers = {name: torch.optim.AdamW(one.parameters(), lr=options.lr) for name, one in heads.items()}
    for step in range(steps):
        seen = _of_batch(network, batches.draw(step))
        lr, losses = learning_rate(step, steps, options), []
        for name, form in FORMS.items():
            loss = form.loss(heads[name](seen.inputs), seen.given, seen.target_en).mean()
            movers[name].zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(heads[name].parameters(), options.clip)
            movers[name].param_groups[0]["lr"] = lr
            movers[name].step()
            losses.append(f"{loss.item():.3f}")
        if step % 50 == 0 or step + 1 == steps:
            lab.say(f"learned from {learned}, seed {seed}: step {step + 1} of {steps}, losses {', '.join(losses)}")
    return heads


@torch.no_grad()
def _of_batch(network: Network, batch: Batch) -> Seen:
    """Returns all answered questions of a batch."""
    hidden = network.trunk(torch.from_numpy(batch.x_BTF), None, torch.from_numpy(batch.time_ms))[0]
    asks = batch.ahead_mask.any(-1)
    question = asked(Question(*(field[asks] for field in batch.ahead)), torch.float32)
    answered = torch.from_numpy(batch.ahead_mask[asks])
    return _seen(network, hidden[torch.from_numpy(asks)], question, torch.from_numpy(batch.ahead_en[asks]), answered)


def _seen(network: Network, hidden: Tensor, question: Asked, target_en: Tensor, answered: Tensor) -> Seen:
    """Returns those of the questions [n, Q] for hidden vectors [n, C] that have an answer."""
    raw = network.forecast(hidden, question.features)
    wide = hidden.unsqueeze(1).expand(-1, raw.shape[1], -1)
    inputs = torch.cat([wide, question.features, raw], dim=-1)
    length = question.frame.square().sum(-1, keepdim=True).sqrt()
    north = torch.tensor([0.0, 1.0], dtype=question.frame.dtype)
    given = Given(combine(raw, question), torch.where(length > 1e-6, question.frame / length.clamp_min(1e-6), north))
    spread = given.spread._replace(mean_en=given.spread.mean_en[answered], cov_m2=given.spread.cov_m2[answered])
    return Seen(
        inputs[answered].float(), Given(spread, given.unit[answered]), target_en[answered].to(spread.mean_en.dtype)
    )


@torch.no_grad()
def _of_exam(network: Network, exam: Exam) -> Iterator[Judged]:
    """Yields all questions of an exam that have a target, some at a time, with the indices of their columns (N,)."""
    for which, hidden, kin, fix, truth_en in ex.look(network, exam):
        known = exam.anchors.target[which] >= 0
        question = windows.question(network, kin, fix, exam.anchors.dt_s[which])
        yield np.nonzero(known)[1], _seen(network, hidden, question, *map(torch.from_numpy, (truth_en, known)))


@torch.no_grad()
def _judge(exam: Sequence[Judged], heads: Mapping[str, nn.Sequential], learned: str, data: str, seed: int) -> list[Row]:
    """Scores the heads on an exam's questions, for which `_of_exam` ran the network once."""
    marks: dict[str, list[F64]] = {way: [] for way in WAYS}
    for _, seen in exam:
        true = distributions.along(seen.target_en, seen.given.unit)
        for way, (form, tell) in WAYS.items():
            quantiles = tell(heads[form](seen.inputs).double(), seen.given)
            low, high = quantiles[..., 0], quantiles[..., -1]
            score = distributions.pinball(quantiles, true).sum(-1)
            held = ((low <= true) & (true <= high)).double().mean(-1)
            marks[way].append(torch.stack([score, held, (high - low).mean(-1)]).numpy())
    column = np.concatenate([column for column, _ in exam])
    rows = []
    for way, parts in marks.items():
        mark = np.concatenate(parts, axis=1)
        means = [_mean(mark[:, column == c]) for c in range(len(ex.COLUMNS))]
        rows.append(Row(learned, data, way, seed, *(tuple(float(m[i]) for m in means) for i in range(3))))
    return rows


def _mean(mark: F64) -> F64:
    return mark.mean(axis=1) if mark.shape[1] else np.full(len(mark), np.nan)


def _scores(rows: Sequence[Row]) -> Table:
    ratios = _ratios(rows)
    columns = ("learned from", "judged on", "way", *ex.COLUMNS, f"over {SERVED}, by seed")
    table = [
        (*names, *_means([row.score_m for row in same]), " and ".join(f"{ratio:.3f}" for ratio in ratios[names]))
        for names, same in _by_names(rows).items()
    ]
    return Table("Score in metres (CRPS along and across, together); less is better", columns, table)


def _intervals(rows: Sequence[Row]) -> Table:
    named = (*(f"held, % ({c})" for c in ex.COLUMNS), *(f"m ({c})" for c in ex.COLUMNS))
    table = [
        (*names, *_means([[100 * v for v in row.held] + list(row.length_m) for row in same]))
        for names, same in _by_names(rows).items()
    ]
    title = "Central 90 % along and across: what they hold, and how long they are"
    return Table(title, ("learned from", "judged on", "way", *named), table)


def _by_names(rows: Sequence[Row]) -> dict[tuple[str, str, str], list[Row]]:
    out: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        out.setdefault((row.learned, row.data, row.way), []).append(row)
    return out


def _means(by_seed: Sequence[Sequence[float]]) -> list[float | None]:
    return cells(np.mean(np.array(by_seed), axis=0))


def _picture(rows: Sequence[Row]) -> Picture:
    title = f"Score against {SERVED}: left of 0 is better"
    lines = [
        Line(f"{way}, {name}", [0.0], [100 * (seeds.mean(own) - 1)])
        for learned, name in ((ALL, "all seen"), (OTHERS, "region never seen"))
        for way, own in _over_files(rows, learned).items()
        if way != SERVED
    ]
    return Picture("scores", title, "change of the score, %", "", lines, bars=True)
