"""Gathers questions about stored states, so that many cost little more than one: they are read from Redis together, and
go through the model together, on a thread of its own. While some are computed, the next ones gather.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from model.api import FINGERPRINT_AT, Predictor
from stream.api.answers.atlases import Atlases, RequestedAtlas
from stream.api.answers.forecasts import StateForecast, StateQuestion, forecast_states
from stream.api.answers.networks import Networks
from stream.api.answers.states import States, StoredRecord
from stream.api.answers.tracks import to_stored
from stream.api.messages import MAX_HORIZON_S, Point
from stream.engine.entities import quarantine, stored_entity
from stream.engine.entities.stored_entity import RecordError, Stored
from stream.engine.entities.table import windows
from stream.http.problems import Refusal

log = logging.getLogger(__name__)

MOST_WAITING: Final = 512  # questions; beyond these the answer would come too late to be of use
MOST_TRACKS: Final = 16  # of a few milliseconds each
MOST_AT_ONCE: Final = 64
# From a first question until it is answered with those that came meanwhile: alone, each costs the model 0.7 ms of CPU,
# four together 0.2 ms each, and Redis as many calls.
GATHER_S: Final = 0.008
ANSWER_S: Final = 5.0


class Question(NamedTuple):
    """Asks where an entity will be."""

    entity_id: str
    horizons_s: tuple[float, ...]
    since_now: bool = False  # the horizons count from now, and not from the entity's last ping


class Answer(NamedTuple):
    state_forecast: StateForecast
    stored: Stored
    partition: int
    network: Predictor
    atlas: RequestedAtlas | None  # None: no atlas is asked here
    now_ms: int


class _Waiting(NamedTuple):
    question: Question
    answer: asyncio.Future[Answer]


_Ready = tuple[_Waiting, int, RequestedAtlas | None, StateQuestion]  # with the partition of the state


class Questions:
    """Answers the questions that wait. It belongs to one event loop."""

    def __init__(
        self,
        states: States,
        networks: Networks,
        atlases: Atlases | None,
        *,
        is_heard: Callable[[str], bool],
        stale_ms: float,
        clock_ms: Callable[[], int],
    ) -> None:
        """Takes `is_heard`, which returns whether a forecast of an entity was heard of lately: then it is not stale,
        whatever its pings say; and after how long it is, otherwise."""
        self._states = states
        self._networks = networks
        self._atlases = atlases
        self._is_heard = is_heard
        self._stale_ms = stale_ms
        self._clock_ms = clock_ms
        self._waiting: deque[_Waiting] = deque()
        self._came = asyncio.Event()
        self._later: set[asyncio.Task[None]] = set()
        self.thread = ThreadPoolExecutor(1, "answers")
        self.batches = 0
        self._tracks = 0  # that are computed or wait for it

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def ask(self, question: Question) -> Answer:
        """Returns the answer. Raises Refusal."""
        if len(self._waiting) >= MOST_WAITING:
            raise Refusal("busy", f"{MOST_WAITING} questions wait already", headers={"Retry-After": "1"})
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(question, future))
        self._came.set()
        try:
            async with asyncio.timeout(ANSWER_S):
                return await future
        except TimeoutError:
            raise Refusal("not_ready", f"no answer within {ANSWER_S:g} s", headers={"Retry-After": "2"}) from None

    async def ask_of_track(self, points: Sequence[Point], horizons_s: tuple[float, ...]) -> Answer:
        """Returns where a track that was sent leads, by our own weights and without an atlas. Raises Refusal."""
        if self._tracks >= MOST_TRACKS:
            raise Refusal("busy", f"{MOST_TRACKS} tracks wait already", headers={"Retry-After": "1"})
        self._tracks += 1
        try:
            async with asyncio.timeout(ANSWER_S):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self.thread, self._forecast_track, points, horizons_s)
        except TimeoutError:
            raise Refusal("not_ready", f"no answer within {ANSWER_S:g} s", headers={"Retry-After": "2"}) from None
        finally:
            self._tracks -= 1

    def _forecast_track(self, points: Sequence[Point], horizons_s: tuple[float, ...]) -> Answer:
        network, now_ms = self._networks.own, self._clock_ms()
        stored = to_stored(points, network.history, now_ms)
        (state_forecast,) = forecast_states(network, [StateQuestion(stored, horizons_s)])
        return Answer(state_forecast, stored, -1, network, None, now_ms)

    async def run(self) -> None:
        """Answers until it is cancelled."""
        while True:
            await self._came.wait()
            await asyncio.sleep(GATHER_S)
            batch = [self._waiting.popleft() for _ in range(min(MOST_AT_ONCE, len(self._waiting)))]
            if not self._waiting:
                self._came.clear()
            batch = [one for one in batch if not one.answer.done()]  # those whose clients are gone
            if not batch:
                continue
            try:
                await self._answer(batch)
            except Refusal as refusal:
                _fail(batch, refusal)
            except Exception as error:  # of one batch; the next must be answered
                log.exception("a batch of %d questions failed", len(batch))
                _fail(batch, error)

    async def _answer(self, batch: Sequence[_Waiting]) -> None:
        self.batches += 1
        records = await self._states.read([one.question.entity_id for one in batch])
        now_ms = self._clock_ms()
        by_network: defaultdict[Predictor, list[_Ready]] = defaultdict(list)
        for one in batch:
            try:
                record = records[one.question.entity_id]
                partition, stored = self._usable(one.question.entity_id, record, now_ms)
                asking = StateQuestion(stored, self._horizons(one.question, stored, now_ms))
            except Refusal as refusal:
                _fail([one], refusal)
                continue
            version = stored.state[FINGERPRINT_AT].hex()
            if (network := self._networks.ready(version)) is None:
                self._put_off(one, self._networks.load(version))
                continue
            atlas = None
            if self._atlases is not None:
                atlas, may_come = self._atlases.of(partition, stored.track.next_offset - 1)
                if may_come and atlas.version is not None:
                    self._put_off(one, self._atlases.load(atlas.version))
                    continue
                asking = asking._replace(atlas=atlas.atlas, is_guided=True)
            by_network[network].append((one, partition, atlas, asking))
        for network, group in by_network.items():
            some = [asking for *_, asking in group]
            forecasts = await asyncio.get_running_loop().run_in_executor(self.thread, forecast_states, network, some)
            for (one, partition, atlas, asking), answer in zip(group, forecasts, strict=True):
                if not one.answer.done():
                    one.answer.set_result(Answer(answer, asking.stored, partition, network, atlas, now_ms))

    def _usable(self, entity_id: str, record: StoredRecord | None, now_ms: int) -> tuple[int, Stored]:
        """Returns the partition and the parts of a stored record. Raises Refusal."""
        if record is None:
            raise Refusal("unknown_entity", "no worker has a state of this entity", came=entity_id)
        if quarantine.is_one(record.raw):
            raise Refusal("unusable_state", "its pings are in quarantine: see its dead letters", came=entity_id)
        try:
            stored = stored_entity.loads(entity_id, record.raw)
        except RecordError as error:
            raise Refusal("unusable_state", f"its stored record is refused: {error}", came=entity_id) from None
        age_ms = now_ms - int(windows(stored.track.window)["ts_ms"][-1])
        if age_ms > self._stale_ms and not self._is_heard(entity_id):
            raise Refusal(
                "stale_entity",
                f"its last ping is {age_ms / 1000:.0f} s old",
                came=entity_id,
                expected=f"a ping within {self._stale_ms / 1000:.0f} s (--stale-after)",
            )
        return record.partition, stored

    def _horizons(self, question: Question, stored: Stored, now_ms: int) -> tuple[float, ...]:
        """Returns the horizons in seconds from the entity's last ping."""
        if not question.since_now:
            return question.horizons_s
        since_s = max(0.0, (now_ms - int(windows(stored.track.window)["ts_ms"][-1])) / 1000)
        if since_s > MAX_HORIZON_S:
            detail = f"its last ping is {since_s:.0f} s old: `from=now` would ask too far ahead of it"
            raise Refusal("stale_entity", detail, came=question.entity_id, expected=f"at most {MAX_HORIZON_S:.0f} s")
        return tuple(since_s + h_s for h_s in question.horizons_s)

    def _put_off(self, one: _Waiting, until: Awaitable[None]) -> None:
        """Asks a question again when something was loaded: the others need not wait for that."""

        async def again() -> None:
            await until
            self._waiting.append(one)
            self._came.set()

        task = asyncio.create_task(again())
        self._later.add(task)
        task.add_done_callback(self._later.discard)


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for one in batch:
        if not one.answer.done():
            one.answer.set_exception(error)
