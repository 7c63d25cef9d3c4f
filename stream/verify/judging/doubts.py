"""Holds published copies that are not equal to the due answer, and judges them when they were read back. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from stream.verify.compare import (
    Tolerance,
    as_published,
    digest_forecast,
    forecast_difference,
    gapfill_difference,
    letter_difference,
    version_of,
)
from stream.verify.log_history import is_orphan
from stream.verify.published import Book, Copy
from stream.verify.report import Tally, Verdict
from stream.verify.versions import ForecastAtlas, ForecastVersions, owed
from stream.wire import Forecast, Outgoing, Record, Topics, dumps, loads_forecast, loads_gapfill

Place = tuple[str, int, int]  # topic, partition, offset


class Doubt(NamedTuple):
    """A published copy whose digest is not that of the due answer. Without a tolerance, its numbers must be equal."""

    due: Outgoing
    place: Place
    copy: Copy
    tolerance: Tolerance | None
    alike: bool = True  # False: the replay asked other versions, so that the numbers cannot be compared
    among: Mixed | None = None


@dataclass(eq=False)
class Mixed:
    """The copies of an answer to a record after a truncation: some are equal to the due answer, others are in doubt."""

    due: Outgoing
    copies: list[Copy]  # those that are known not to be orphans


class Blame(Protocol):
    """Reports a finding."""

    def __call__(self, verdict: Verdict, offset: int | None, entity: str | None, reason: str, times: int) -> None: ...


class Doubts:
    """The copies of one partition that are in doubt, until they were read back."""

    def __init__(
        self,
        book: Book,
        topics: Topics,
        tally: Tally,
        blame: Blame,
        count: Callable[[Outgoing, Sequence[Copy]], None],
        versions: Set[str],
        models: Set[str],
        wrong_atlas: Callable[[int, ForecastAtlas], str | None],
    ) -> None:
        """Takes `count`, which is called with an answer and its copies when it is known that none is an orphan; the
        versions of the atlas and of the weights that a replay can ask; and `wrong_atlas`, which returns why the ping at
        an offset should not have asked an atlas."""
        self._book = book
        self._topics = topics
        self._tally = tally
        self._blame = blame
        self._count = count
        self._doubts: list[Doubt] = []
        self._versions = versions
        self._models = models
        self._wrong_atlas = wrong_atlas
        self._odd: list[Doubt] = []  # about copies that asked another version than this replay, and another can ask
        self._mixed: list[Mixed] = []  # answers of which some copies are among the doubts

    def __len__(self) -> int:
        return len(self._doubts)

    @property
    def places(self) -> Set[Place]:
        return {doubt.place for doubt in self._doubts}

    def add(self, doubts: Iterable[Doubt]) -> None:
        for doubt in doubts:
            (self._doubts if doubt.alike or not self._can_ask(doubt.copy) else self._odd).append(doubt)

    def mix(self, answer: Outgoing, copies: Sequence[Copy], doubts: Sequence[Doubt]) -> bool:
        """Returns whether some of the copies may be orphans; then they are judged when they were read back."""
        if answer.src.offset < self._book.cut or not doubts:
            return False
        doubted = [doubt.copy for doubt in doubts]
        mixed = Mixed(answer, [copy for copy in copies if copy not in doubted])
        self._mixed.append(mixed)
        self._doubts += [doubt._replace(among=mixed) for doubt in doubts]
        return True

    def take_odd(self) -> dict[int, Doubt]:
        """Returns copies for which another replay has to ask their version, one of each ping, by its offset."""
        taken = {doubt.due.src.offset: doubt for doubt in self._odd}
        self._odd = [doubt for doubt in self._odd if taken[doubt.due.src.offset] is not doubt]
        return taken

    def again(self, odd: Doubt, answers: Sequence[Outgoing]) -> None:
        """Judges such a copy by the answers of that replay to its ping."""
        for answer in answers:
            if answer.topic == odd.due.topic:
                due = loads_forecast(answer.value or b"")
                doubt = doubt_of(answer, due, odd.copy, self._book.named[odd.copy.named], odd.tolerance)
                self._doubts += [] if doubt is None else [doubt]
                return
        self._doubts.append(odd)

    def settle(self, found: Mapping[Place, Record]) -> None:
        """Decides the doubts by the records at their places. A record that is gone by now cannot be judged."""
        for doubt in self._doubts:
            published = found.get(doubt.place)
            if published is None:
                self._tally.unjudged += 1
            elif doubt.among is not None and is_orphan(doubt.due, published, self._topics):
                reason = f"{_where(doubt)} answers a record that is not there any more"
                self._blame("orphaned", doubt.due.src.offset, None, reason, doubt.copy.times)
                continue
            else:
                self._decide(doubt, published)
            if doubt.among is not None:
                doubt.among.copies.append(doubt.copy)
        for mixed in self._mixed:
            self._count(mixed.due, mixed.copies)
        self._doubts.clear()
        self._mixed.clear()

    def _can_ask(self, copy: Copy) -> bool:
        atlas, model = self._book.named[copy.named]
        return model.version in self._models and (
            atlas is None or atlas.version is None or atlas.version in self._versions
        )

    def _decide(self, doubt: Doubt, published: Record) -> None:
        reason, other_model = difference(doubt, published, self._topics)
        offset, entity = doubt.due.src.offset, (doubt.due.key or b"").decode(errors="replace")
        fill_asked = other_atlas(doubt.due, published, self._topics)
        if reason is not None:
            self._blame("different", offset, entity, f"{reason} (at {_where(doubt)})", doubt.copy.times)
        elif fill_asked is not None and (wrong := self._wrong_atlas(offset, fill_asked)) is not None:
            self._blame("wrong_atlas", offset, entity, f"a gap fill: {wrong} (at {_where(doubt)})", doubt.copy.times)
        elif other_model:
            self._tally.other_model += 1
        elif not doubt.alike or fill_asked is not None:
            self._tally.other_atlas += 1
        else:
            self._tally.close += 1


def doubts_of(answer: Outgoing, copies: Sequence[Copy], digest: int, tolerance: Tolerance | None) -> list[Doubt]:
    """Returns the doubts about copies whose digest is not this."""
    return [Doubt(answer, (answer.topic, *copy.place), copy, tolerance) for copy in copies if copy.digest != digest]


def doubt_of(
    answer: Outgoing, due: Forecast, copy: Copy, asked: ForecastVersions, tolerance: Tolerance | None
) -> Doubt | None:
    """Returns the doubt about a copy of a forecast that names these versions, if it is not what a replay gave."""
    own, place = owed(due, asked), (answer.topic, *copy.place)
    if own is None:
        return Doubt(answer, place, copy, tolerance, alike=False)
    if digest_forecast(answer.key, own) == copy.digest:
        return None
    return Doubt(answer if own is due else answer._replace(value=dumps(own)), place, copy, tolerance)


def difference(doubt: Doubt, published: Record, topics: Topics) -> tuple[str | None, bool]:
    """Returns why the copy differs, if it does, and whether it is of another model."""
    due = doubt.due
    if due.topic == topics.dead_letters:
        return letter_difference(as_published(due), published), False
    if published.key != due.key:
        return f"its key is {published.key!r}, expected {due.key!r}", False
    if due.topic == topics.gapfills:
        fill, other = loads_gapfill(due.value or b""), loads_gapfill(published.value or b"")
        assert doubt.tolerance is not None
        return gapfill_difference(fill, other, doubt.tolerance), other.model != fill.model
    forecast, found = loads_forecast(due.value or b""), loads_forecast(published.value or b"")
    return forecast_difference(forecast, found, doubt.tolerance, alike=doubt.alike), found.model != forecast.model


def other_atlas(due: Outgoing, published: Record, topics: Topics) -> ForecastAtlas | None:
    """Returns what a published gap fill says of the atlas that it asked, if that is another than the replay asked."""
    if due.topic != topics.gapfills:
        return None
    found = loads_gapfill(published.value or b"")
    if version_of(found) == version_of(loads_gapfill(due.value or b"")):
        return None
    return ForecastAtlas.of(found.atlas) or ForecastAtlas(None, late=True)


def _where(doubt: Doubt) -> str:
    return "{}/{}@{}".format(*doubt.place)
