"""Judges versions of the atlas: each is what an undisturbed count makes of the log up to the offsets that
it names, so that it holds no half of a day and nobody who was forgotten before; one maker at a time announces; and
what serves has its file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from networks import make_predictor
from plans import CUTS
from topics_read import read

from model.api import Atlas
from model.atlas.atlas import version_of
from model.atlas.version import pieces
from stream.atlas.building import Rules, choose_publishable
from stream.atlas.growing import PartitionGrowth
from stream.atlas.growing_days import GrowingDays
from stream.kafka.records.record_columns import Records
from stream.versions.files import path_of
from stream.versions.ledger import Ledger
from stream.wire import VERSION_KEY, WEIGHTS_KEY, loads_forecast

if TYPE_CHECKING:
    from stage import Stage

EVERY_S: Final = 4.0  # between two versions
INVENTED: Final = 1_000
RULES: Final = Rules(min_entities=2)  # a world has some four


def judge_version(stage: Stage, version: str, includes: Mapping[int, int]) -> list[str]:
    """Returns what is wrong with a version that is to be announced, and that says up to which offsets it was counted.
    An early one also has what is known of passages that are not over, maybe of a later moment than its days."""
    if stage.plan.kinds & (CUTS | {"retain"}):
        return []  # what was counted of records that are gone stays
    ends = {number: stage.kafka.log_end((stage.settings.topics.pings, number)) for number in includes}
    made = [_count(stage, includes, includes, so_far=False), _count(stage, includes, includes, so_far=True)]
    if version in made or (len(ends) == 1 and version in _later(stage, includes, ends)):
        stage.world.count("versions_judged", 1)
        return []
    if len(ends) > 1 and ends != dict(includes):
        return []  # of which later moment of which partition it is cannot be tried
    return [f"version: {version} is not what the log up to {dict(includes)} makes, which is {made[0]}"]


def _later(stage: Stage, includes: Mapping[int, int], ends: Mapping[int, int]) -> Iterator[str]:
    """Yields the versions of these days with passages that were known later."""
    ((number, begin),) = includes.items()
    for end in range(begin + 1, ends[number] + 1):
        yield _count(stage, includes, {number: end}, so_far=True)


def _count(stage: Stage, includes: Mapping[int, int], known: Mapping[int, int], *, so_far: bool) -> str:
    """Returns the version that an undisturbed count makes: of days up to `includes`, with `so_far` and of passages that
    are not over up to `known`."""
    all_days = GrowingDays()
    for number, end in includes.items():
        records = read(stage, stage.settings.topics.pings, number)
        days, growth = GrowingDays(), PartitionGrowth()
        for begin, until in ((0, end), (end, known[number])):
            some = [one for one in records if begin <= one.offset < until]
            for grown in growth.add(Records.of(some)) if some else ():
                if begin == 0:
                    days.forget(grown.forgotten)
                    days.add(grown.days)
        if so_far:
            days.add(growth.known_so_far())
        all_days.add_all(days)
    return version_of(pieces(*choose_publishable(all_days, RULES, make_predictor()))[-1])


def judge_announcements(stage: Stage) -> list[str]:
    """Returns what is wrong with the topic of versions, and with the files of what serves, when all is at rest."""
    found = [*_judge_order(stage), *_judge_files(stage)]
    found += _find_lesser(stage)
    for number in range(stage.plan.partitions):
        for record in read(stage, stage.settings.topics.forecasts, number):
            try:
                atlas = loads_forecast(record.value or b"").atlas
            except ValueError:
                continue  # a stranger wrote it
            if atlas is not None and atlas.version is not None:
                stage.world.count("asked_atlas", 1)
                stage.world.count("guided", int(atlas.pings > 0))
    return found


def _judge_order(stage: Stage) -> Iterator[str]:
    """Yields where a maker announced something while what another one had announced was neither confirmed nor
    withdrawn. Strangers, who write without a transaction, may do so."""
    log, waits = stage.kafka.protocol.log((stage.settings.topics.models, 0)), dict[bytes, int]()
    for batch in log.batches:
        for record in batch.records if batch.transactional and not batch.aborted else ():
            key, value = record.key or b"", record.value or b""
            if not key.startswith((VERSION_KEY.encode(), WEIGHTS_KEY.encode())):
                continue
            before = waits.pop(key, None)
            if b'"state":"announced"' in value:
                if waits:
                    others = ", ".join(sorted(one.decode() for one in waits))
                    yield f"two makers: {key.decode()} is announced at {record.offset} while {others} is"
                waits[key] = record.offset
            elif value and before is None and not _was_left(stage, key):
                yield f"unannounced: {key.decode()} serves at {record.offset}, and was not announced before"
            if value and key.startswith(VERSION_KEY.encode()):
                stage.world.count("version_records", 1)


def _find_lesser(stage: Stage) -> Iterator[str]:
    """Yields which versions took the place of one that was counted further, by days that are counted anew."""
    before: Mapping[int, int] = {}
    for record in read(stage, stage.settings.topics.models, 0) if not stage.plan.kinds & (CUTS | {"retain"}) else ():
        version, made = Ledger(stage.settings.topics.pings).parse_record(record.key, record.value)
        if version is None or made is None:
            continue
        if int(version, 16) >= INVENTED and any(made.includes.get(number, 0) < end for number, end in before.items()):
            yield f"lesser: {version} is of {made.includes}, and the one before it was of {before}"
        before = made.includes if made.state == "serving" else before


def _was_left(stage: Stage, key: bytes) -> bool:
    """Returns whether it was not announced by a maker: a stranger did, or it is of the topic before."""
    return bool(stage.plan.kinds & {"left_announced", "models_junk", "models_anew"})


def _judge_files(stage: Stage) -> Iterator[str]:
    """Yields which versions serve without a file that is theirs."""
    folder, topics = stage.settings.atlases, stage.settings.topics
    ledger = Ledger(topics.pings)
    for record in read(stage, topics.models, 0):
        ledger.add(record.key, record.value)
    for one in ledger.serving if folder is not None else ():
        if int(one.version, 16) < INVENTED:
            continue  # of a stranger
        try:
            atlas = Atlas.load(path_of(folder, one.version))
        except (OSError, ValueError) as error:
            yield f"file: version {one.version} serves, and its file cannot be read ({error})"
            continue
        if atlas.version != one.version:
            yield f"file: version {one.version} serves, and its file is {atlas.version}"
