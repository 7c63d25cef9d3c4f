"""Runs a refresh from end to end on files: prepare, train, calibrate, check, judge, decide, publish.

It works in a hidden directory beside `out`, which is renamed at the very end, so that a killed refresh leaves nothing
that anybody could take for its result. The same command, given again, goes on from the last checkpoint of training; the
rest takes seconds, and is done anew.

    .NAME.unfinished/run/           training's own directory, with its checkpoint
    .NAME.unfinished/challenger/    the calibrated weights
    .NAME.unfinished/finished/      what becomes `out`:
        decision.json               the decision with all its numbers
        model.safetensors config.json README.md trained_on.json     if it is promoted
        refused/                    the same four, if it is not: at hand, and not where anybody serves from
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final

from model.api import Predictor, WeightsError
from model.files import write_whole
from model.network.checkpoint import save_pretrained
from model.parameters.reading import CARD_FILE, find_weights, from_pretrained, resolve
from stream.adapters.sources import Source
from train.calibration.calibrate import calibrate
from train.data.corpus import Reading, ignore_progress
from train.fit.trainer import Tick, fit
from train.refresh import reference_tracks, statement, training
from train.refresh.comparison import Progress, compare
from train.refresh.decision import DECISION_FILE, Comparison, Decision, DecisionRules, decide
from train.refresh.parts import LATE_MS, MOST_ANCHORS, RefreshParts, format_utc, spans_ms, split_parts
from train.refresh.statement import Statement, TrainedSpan

REFUSED: Final = "refused"
TOWNS_ENTITIES: Final = 200  # invented things that train beside the fleet, so that other ways of moving stay known
WEIGHTS: Final = ("model.safetensors", "config.json", CARD_FILE, statement.STATEMENT_FILE)

Say = Callable[[str], None]


@dataclass(frozen=True)
class RefreshOptions:
    out: Path
    champion: str = "small"  # by name or directory: what serves, and where training begins
    minutes: float | None = None
    steps: int | None = None
    challenger: str | None = None  # weights that are judged instead of trained ones
    seed: int = 0
    golden: tuple[Source, ...] = ()
    atlas_ms: int | None = None  # also judge beside an atlas of the fleet, with a new version each so often
    places: int = training.PLACES
    late_ms: int = LATE_MS
    most_anchors: int = MOST_ANCHORS
    towns: int = TOWNS_ENTITIES
    device: str = "auto"
    rows: int | None = None  # of a batch; None: training's own
    cache: Path | None = None
    rules: DecisionRules = field(default_factory=DecisionRules)


@dataclass(frozen=True)
class RefreshWatch:
    """The functions that are called while a refresh goes on: with lines, and with shares of what is done."""

    say: Say = lambda line: None
    reading: Reading = ignore_progress
    tick: Callable[[Tick], None] = lambda tick: None
    progress: Progress = lambda share: None


def refresh(
    sources: Sequence[Source],
    options: RefreshOptions,
    command: Callable[[int], str],
    watch: RefreshWatch | None = None,
) -> Decision:
    """Returns the decision about a challenger, which `out` then holds.

    Args:
        command: returns the command that makes the same weights again, for the number of steps of the training.

    Raises ValueError where `out` holds something, or the data are too little; OSError.
    """
    watch = watch or RefreshWatch()
    if options.out.exists():
        raise ValueError(f"{options.out} exists, and what it has stays: name another directory")
    champion = Predictor.load(options.champion)
    towns = []
    if options.towns:
        towns.append(reference_tracks.write_towns(options.cache, "refresh-towns", options.towns, options.seed))
    others = reference_tracks.rehearsal()
    parts = split_parts(
        sources,
        [*towns, *others],
        options.cache,
        late_ms=options.late_ms,
        most_anchors=options.most_anchors,
        reading=watch.reading,
    )
    work = options.out.with_name(f".{options.out.name}.unfinished")
    work.mkdir(parents=True, exist_ok=True)
    often = {one.name: training.TOWNS_SHARE for one in towns}
    often |= {one.name: training.REHEARSAL_SHARE for one in others}
    challenger = (
        resolve(options.challenger) if options.challenger else train(parts, often, options, work, command, watch)
    )
    decision = judge(champion, options.champion, challenger, parts, options, watch)
    finish(work, options.out, challenger, decision)
    return decision


def train(
    parts: RefreshParts,
    often: Mapping[str, float],
    options: RefreshOptions,
    work: Path,
    command: Callable[[int], str],
    watch: RefreshWatch,
) -> Path:
    """Trains and calibrates a challenger, and returns its directory. `often`: files that are not the fleet's, and how
    often they are drawn (`training.training_options`)."""
    config = training.add_map(find_weights(options.champion)[1], options.places)
    fitting = training.training_options(
        work / "run",
        options.champion,
        often,
        minutes=options.minutes,
        steps=options.steps,
        seed=options.seed,
        device=options.device,
        rows=options.rows,
    )
    report = fit(parts.train, None, config, fitting, unfinished=True, watch=watch.tick, say=watch.say)
    if parts.calibration:
        for held in calibrate(report.network, parts.calibration, say=watch.say):
            watch.say(str(held))
    else:
        watch.say("regions stay as wide as they were: no track is there to fit them to")
    directory, again = work / "challenger", command(report.steps)
    card = _write_card((work / "run" / CARD_FILE).read_text(encoding="utf-8"), again, parts)
    save_pretrained(report.network, directory, card)
    spans = spans_ms(parts.train)
    for sample in parts.calibration:
        first, last = spans_ms(sample.corpus)[sample.file]
        old = spans.get(sample.file, (first, last))
        spans[sample.file] = (min(old[0], first), max(old[1], last))
    mine = [TrainedSpan(file, *span) for file, span in spans.items() if file not in often]
    before = statement.read_statement(resolve(options.champion))
    said = Statement(
        weights=from_pretrained(directory).fingerprint().hex(),
        begun_from=from_pretrained(options.champion).fingerprint().hex(),
        command=again,
        seed=options.seed,
        steps=report.steps,
        pathcast=version("pathcast"),
        files=statement.join_spans([*mine, *(before.files if before else ())]),
    )
    statement.write_statement(said, directory)
    return directory


def judge(
    champion: Predictor, name: str, challenger: Path, parts: RefreshParts, options: RefreshOptions, watch: RefreshWatch
) -> Decision:
    """Checks and judges a challenger, and decides."""
    started_s = time.process_time()
    faults = statement.find_faults(champion.config, challenger, parts.hours)
    judged: list[Comparison] = []
    kept: list[Comparison] = []
    beside: list[Comparison] = []
    if not faults:
        try:
            new = Predictor.load(challenger)
            judged = compare(parts.judged, champion, new, progress=watch.progress)
            if options.atlas_ms is not None:
                beside = compare(parts.judged, champion, new, atlas_ms=options.atlas_ms, progress=watch.progress)
            sets = reference_tracks.golden_samples(options.golden, options.cache, reading=watch.reading)
            kept = compare(sets, champion, new, progress=watch.progress)
        except (WeightsError, ValueError) as error:
            faults = [str(error)]
    decision = decide(faults, [*judged, *beside], kept, options.rules)
    about = {
        "champion": {"weights": name, "version": champion.version},
        "challenger": {"weights": str(challenger.name), "version": _version(challenger)},
        "hours": [one._asdict() for one in parts.hours],
        "judging_cpu_s": round(time.process_time() - started_s, 1),
    }
    return decision._replace(numbers={**about, **decision.numbers})


def finish(work: Path, out: Path, challenger: Path, decision: Decision) -> None:
    """Makes `out` appear whole, and removes what is no longer needed."""
    finished = work / "finished"
    shutil.rmtree(finished, ignore_errors=True)
    place = finished if decision.promote else finished / REFUSED
    place.mkdir(parents=True)
    for name in WEIGHTS:
        if (challenger / name).is_file():
            shutil.copyfile(challenger / name, place / name)
    found = {"promote": decision.promote, "sentence": decision.sentence, "reasons": decision.reasons}
    write_whole(finished / DECISION_FILE, [(json.dumps({**found, **decision.numbers}, indent=2) + "\n").encode()])
    finished.rename(out)
    shutil.rmtree(work, ignore_errors=True)


def _version(weights: Path) -> str | None:
    try:
        return from_pretrained(weights).fingerprint().hex()
    except WeightsError:
        return None


def _write_card(trained: str, command: str, parts: RefreshParts) -> str:
    """Returns the card of refreshed weights: the one that training wrote, and below it the command that makes them
    again.
    """
    judged = [f"- {one.file}: judged from {format_utc(one.from_ms)} to {format_utc(one.to_ms)}." for one in parts.hours]
    lines = [
        trained.rstrip(),
        "",
        "## Refreshed",
        "",
        "Made by `pathcast train refresh` from a fleet's own days. The same data, version of pathcast and kind of",
        "processor make the same weights again by",
        "",
        f"    {command}",
        "",
        *judged,
        "- Nothing of these hours trained. `trained_on.json` states what did, `decision.json` how both were judged.",
        "",
    ]
    return "\n".join(lines)
