"""Two sides of one history: the real broker and the model. Both write down what they answered, by the same names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiokafka.errors import (
    BrokerResponseError,
    ConcurrentTransactions,
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
    NotEnoughReplicasError,
)
from kafka_cluster import Cluster
from kafka_groups import Joined
from kafka_log import Fetched
from kafka_pending import Pending
from kafka_transactions import ProducerId
from kafka_wire import PATIENCE_S, Wire

# The end of a transaction is answered before its markers are written. How long that takes is nobody's promise, so that
# both sides ask again until it is over, as a client does.
_SOON = (ConcurrentTransactions, NotEnoughReplicasError)
# What a coordinator answers while it is loaded, which only the real one is.
_LOADING = (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError)
_REPEATED = ("init_producer_id", "end_txn", "add_partitions", "add_offsets", "produce", "txn_offset_commit")


class Failure:
    """A request that was refused."""

    def __init__(self, error: BrokerResponseError) -> None:
        self.name = type(error).__name__
        self.member_id: str = getattr(error, "member_id", "")


class Side:
    """One side. `ask` sends a request and notes the answer; a refused one is a `Failure`."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix  # of topics, groups and transactional ids
        self.trace: list[str] = []
        self._names: dict[object, str] = {}

    async def wait(self, seconds: float) -> None:
        raise NotImplementedError

    async def _answer(self, request: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        raise NotImplementedError

    def name(self, what: str) -> str:
        return f"{self.prefix}-{what}"

    async def ask(self, request: str, *arguments: Any, **options: Any) -> Any:
        answer = await self._repeat(request, arguments, options)
        self._note(request, arguments, options, answer)
        return answer

    async def begin(self, request: str, *arguments: Any, **options: Any) -> asyncio.Task[Any]:
        """Sends a request whose answer comes later; `finish` notes it."""
        task = asyncio.create_task(self._repeat(request, arguments, options))
        await self.settle()
        return task

    async def settle(self) -> None:
        """Lets a request that was sent last arrive before the next."""

    async def answered(self, tasks: Mapping[str, asyncio.Task[Any]]) -> list[str]:
        """Returns which of these requests have an answer by now."""
        raise NotImplementedError

    async def finish(self, request: str, task: asyncio.Task[Any]) -> Any:
        answer = await asyncio.wait_for(task, PATIENCE_S)
        self._note(request, (), {}, answer)
        return answer

    def note(self, text: str) -> None:
        self.trace.append(text)

    async def _repeat(self, request: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        for _ in range(400):
            try:
                return await self._answer(request, arguments, options)
            except _LOADING:
                await asyncio.sleep(0.05)
            except _SOON as error:
                if request not in _REPEATED:
                    return Failure(error)
                await asyncio.sleep(0.01)
            except BrokerResponseError as error:
                return Failure(error)
        raise TimeoutError(f"{request} {arguments}")

    def _note(self, request: str, arguments: tuple[Any, ...], options: dict[str, Any], answer: Any) -> None:
        self._learn(answer)
        asked = [self._show(one) for one in (*arguments, *options.values())]
        self.trace.append(f"{request}({', '.join(asked)}) -> {self._show(answer)}")

    def _learn(self, answer: Any) -> None:
        """Gives the members of an answer names that both sides have: their ids are the brokers' own."""
        if isinstance(answer, Failure) and answer.member_id:
            self._alias("member", answer.member_id)
        elif isinstance(answer, Joined):
            self._alias("member", answer.member_id)
            self._alias("member", answer.leader)
            for member, _, _ in sorted(answer.members, key=lambda one: str(one[1])):
                self._alias("member", member)

    def _show(self, what: Any) -> str:
        if isinstance(what, Failure):
            return what.name
        if isinstance(what, ProducerId):
            return f"{self._alias('producer', what.producer_id) if what.producer_id >= 0 else -1}/{what.epoch}"
        if isinstance(what, Joined):
            members = sorted(f"{self._show(one)}={instance}:{data!r}" for one, instance, data in what.members)
            who = f"{self._show(what.member_id)} led by {self._show(what.leader)}"
            return f"{what.generation} {what.protocol} {who}, {members}"
        if isinstance(what, Fetched):
            records = [(one.offset, one.timestamp_ms, one.key, one.value, tuple(one.headers)) for one in what.records]
            limits = f"{what.log_start}, {what.last_stable_offset}, {what.high_watermark}"
            return f"{records} next {what.next_offset} within {limits}"
        if isinstance(what, Mapping):
            return str({self._show(key): self._show(value) for key, value in what.items()})
        if isinstance(what, (list, tuple)):
            return f"({', '.join(self._show(one) for one in what)})"
        if isinstance(what, str):
            if what.startswith(self.prefix):
                return what.removeprefix(self.prefix)
            return self._names.get(("member", what), repr(what))
        return repr(what)

    def _alias(self, kind: str, what: object) -> str:
        return self._names.setdefault((kind, what), f"{kind}{len(self._names)}")


class RealSide(Side):
    """The broker. How long an answer takes is nobody's promise, so that this side waits for those that `expected` has:
    what the other side's `answered` returned, call by call. One that never comes is a difference."""

    def __init__(self, prefix: str, wire: Wire, expected: Iterable[list[str]]) -> None:
        super().__init__(prefix)
        self._wire, self._expected = wire, iter(expected)

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def settle(self) -> None:
        await asyncio.sleep(0.15)

    async def answered(self, tasks: Mapping[str, asyncio.Task[Any]]) -> list[str]:
        await self.settle()
        wanted = [tasks[name] for name in next(self._expected, []) if name in tasks]
        if wanted:
            await asyncio.wait(wanted, timeout=PATIENCE_S)
        return [name for name, task in tasks.items() if task.done()]

    async def _answer(self, request: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        answer = await getattr(self._wire, request)(*arguments, **options)
        if request == "end_txn":  # asked again, it says whether all markers are written
            for _ in range(400):
                try:
                    await self._wire.end_txn(*arguments)
                    break
                except ConcurrentTransactions:
                    await asyncio.sleep(0.01)
        return answer


class ModelSide(Side):
    def __init__(self, prefix: str, now: float) -> None:
        super().__init__(prefix)
        self._now = now
        self.cluster = Cluster(lambda: self._now)
        self.answers: list[list[str]] = []  # what `answered` has returned, call by call

    async def wait(self, seconds: float) -> None:
        end = self._now + seconds
        while (at := self.cluster.next_deadline()) is not None and at <= end:
            self._now = max(self._now, at)
            self.cluster.tick()
        self._now = end
        self.cluster.tick()
        await asyncio.sleep(0)

    async def settle(self) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def answered(self, tasks: Mapping[str, asyncio.Task[Any]]) -> list[str]:
        await self.settle()
        self.answers.append([name for name, task in tasks.items() if task.done()])
        return self.answers[-1]

    async def _answer(self, request: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if request in ("sync_group",):
            options = {key: value for key, value in options.items() if key != "client_id"}
        method: Callable[..., Any] = getattr(self.cluster, request)
        answer = method(*arguments, **options)
        if isinstance(answer, Pending):
            arrived: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            answer.then(lambda one: arrived.done() or arrived.set_result(one))
            return (await arrived).result()
        return None if request == "create_topic" else answer
