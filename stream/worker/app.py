"""Defines the Faust app and the worker around it: the topic, the agent, and what happens on a rebalance, a signal or a
crash. `stream.delivery` decides what is delivered, and when."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar, cast

import faust
from faust.app.base import BootStrategy

from model.api import Predictor, check_weights
from model.jit import compiling
from stream.config.http_access import Address, token
from stream.config.security import KafkaSecurity, kafka_refusal
from stream.config.settings import FETCH_BYTES, DeliveryGuarantee, Settings
from stream.config.times import LOOK_S, Pacer
from stream.delivery.delivery import Delivery
from stream.delivery.guarantees import AtLeastOnce, ExactlyOnce
from stream.delivery.partitions import Guarantee
from stream.engine.engine import Engine
from stream.http import pages
from stream.kafka.producer import Publisher
from stream.store.redis_store import RedisStore
from stream.versions.announcement_reader import AnnouncementReader
from stream.versions.serving import Versions
from stream.worker import memory, startup, tracing
from stream.worker import versions as asked_versions
from stream.worker.client_log import ClientLogFilter
from stream.worker.faust_driver import Consumer, Polled, partitions
from stream.worker.monitor.auth_monitor import AuthMonitor
from stream.worker.monitor.monitor import Monitor
from stream.worker.partition_counts import PartitionCounts, rejoin_when_changed
from stream.worker.warmup import warm

log = logging.getLogger(__name__)
T = TypeVar("T")

STOP_S = 9.0  # for drain, last checkpoint and leaving the group; orchestrators kill after 10 s or more
POLLS_WAITING = 2  # messages between the consumer and the agent; after the agent, delivery limits the waiting records
MAX_HEARTBEAT_S = 3.0  # a heartbeat's answer announces a rebalance: a long session must not make other members wait
METADATA_MS = 10_000  # how soon new partitions of the topic are found; aiokafka's default is 5 minutes
MIN_REQUEST_TIMEOUT_S = 40.0  # aiokafka's default; Faust demands more than the session timeout


class ConsumerOnly(BootStrategy):
    """Starts no web server and no Faust producer, because `stream.kafka.producer` sends. (Besides, Faust's
    `producer_threaded` breaks on stop.)"""

    enable_web = False
    enable_kafka_producer = False


class Untouched(faust.Schema[Any, Any]):
    """Passes keys and values on as the driver made them. `stream.tracks.clean` decodes the bytes, and bad ones become
    a reject; with a decoder here, Faust would acknowledge them before the agent sees them."""

    def loads_key(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:
        return message.key

    def loads_value(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:
        return message.value


class App(faust.App):
    """A Faust app with a Delivery."""

    BootStrategy = ConsumerOnly
    logger = logging.getLogger("faust.app")  # not "stream...", so that its starts and stops are not shown
    delivery: Delivery
    watch: Monitor
    versions: Versions | None
    watch_partitions: Callable[[], Coroutine[Any, Any, None]]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.ends: list[Callable[[], None]] = []  # what is to be called when all else has stopped

    async def drain(self) -> None:
        """Finishes or forgets all records in flight. The driver calls it before partitions are revoked."""
        await self.delivery.ownership.drain()

    def _create_directories(self) -> None:
        """Does nothing. Faust would make a folder for its tables in the current directory, and we have no tables."""


async def build(settings: Settings, announcements: AnnouncementReader | None = None) -> App:
    """Returns the app of one worker, with its Delivery; nothing is connected yet. Blocks while the model is loaded.

    `announcements` has read which versions serve, if any are to be asked.

    Raises:
        WeightsError: the weights cannot be used.
    """
    compute = ThreadPoolExecutor(1, thread_name_prefix="compute")  # one thread may use a Predictor at a time

    async def run(work: Callable[[], T], /) -> T:
        return await asyncio.get_running_loop().run_in_executor(compute, work)

    # A worker uses one core; for more cores, start more workers. The capacity is for all entities at once: memory is
    # taken only when it is used.
    log.info("loading weights %s: the first start on a machine compiles kernels, some 30 s", settings.weights)
    began_s = time.monotonic()
    with compiling(log.info):
        predictor = Predictor.load(settings.weights, capacity=settings.max_entities)
        await warm(predictor, settings)
    log.info(
        "weights %s, version %s: layers in %s (CPU vectors: %s), ready in %.1f s",
        *(predictor.name, predictor.version, predictor.layers, predictor.instructions, time.monotonic() - began_s),
    )
    store = RedisStore(settings)
    engine = Engine(predictor, store, settings, run=run)
    app = faust_app(settings)
    consumer = cast(Consumer, app.consumer)
    app.versions = asked_versions.versions(settings, announcements, consumer, predictor)
    if app.versions is not None:
        await app.versions.ready()
    guarantee = _guarantee(settings, consumer)
    app.delivery = Delivery(
        *(settings, engine, store, guarantee, consumer),
        versions=app.versions,
        tracer=tracing.tracer(settings, app.ends),
    )
    app.watch = Monitor(app.delivery, engine, consumer, app.versions)
    _connect(app, settings, engine)
    return app


def _guarantee(settings: Settings, consumer: Consumer) -> Guarantee:
    publisher = partial(Publisher, settings.bootstrap, security=settings.kafka, compression=settings.compression)
    if settings.delivery is DeliveryGuarantee.EXACTLY_ONCE:
        return ExactlyOnce(settings.group, consumer, publisher)
    return AtLeastOnce(publisher(), consumer)


def faust_app(settings: Settings) -> App:
    return App(
        settings.group,
        broker=[f"pathcast://{server}" for server in settings.bootstrap.split(",")],
        broker_credentials=_credentials(settings.kafka),
        store="memory://",
        table_standby_replicas=0,  # no tables, and so the plain round-robin assignor
        topic_allow_declare=False,
        topic_disable_leader=True,
        reply_create_topic=False,
        web_enabled=False,
        producer_threaded=False,
        stream_wait_empty=True,
        stream_buffer_maxsize=POLLS_WAITING,
        stream_publish_on_commit=False,
        broker_max_poll_records=settings.max_batch,
        consumer_max_fetch_size=FETCH_BYTES,
        consumer_group_instance_id=settings.instance or None,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=min(settings.session_timeout_s / 5, MAX_HEARTBEAT_S),
        broker_request_timeout=max(MIN_REQUEST_TIMEOUT_S, settings.session_timeout_s * 2),
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=METADATA_MS,
    )


def _credentials(security: KafkaSecurity) -> faust.auth.Credentials | None:
    """Returns the credentials as Faust's classes."""
    context = security.context() if security.tls else None
    if security.sasl:
        return faust.SASLCredentials(
            username=security.user,
            password=security.password,
            mechanism=security.mechanism.value,
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)


def _connect(app: App, settings: Settings, engine: Engine) -> None:
    delivery, consumer, counts = app.delivery, cast(Consumer, app.consumer), PartitionCounts()
    pings = app.topic(settings.topics.pings, schema=Untouched())
    app.watch_partitions = partial(
        rejoin_when_changed,
        *(consumer, settings.topics.pings, lambda: engine.placement.partitions),
        lambda: bool(settings.instance) and not delivery.ownership.owned,
    )

    @app.agent(pings, name="deliver")
    async def deliver(stream: Any) -> None:
        async for event in stream.noack().events():
            polled = cast(Polled, event.value)
            await delivery.put(polled.take(), polled.fetched_ms, event.ack)

    # Signals are called with (the app, their subject).
    @app.on_partitions_assigned.connect
    async def on_assigned(*args: Any, **_: Any) -> None:
        given = partitions(args[1])
        log.info("assigned: partitions %s", ", ".join(str(number) for _, number in sorted(given)) or "none")
        engine.placement.partitions = consumer.partitions_of(settings.topics.pings)
        if more := counts.describe_change(engine.placement.partitions):
            log.warning("%s: %s", settings.topics.pings, more)
        delivery.ownership.assign(given)

    @app.on_partitions_revoked.connect
    async def on_revoked(*args: Any, **_: Any) -> None:
        await delivery.ownership.revoke(partitions(args[1]))

    @app.on_before_shutdown.connect
    async def on_before_shutdown(*_: Any, **__: Any) -> None:
        # This runs after the drain and before the consumer leaves the group: the next owner finds everything saved.
        await delivery.ownership.revoke(list(delivery.ownership.owned))


async def serve(
    settings: Settings,
    door: Address | None = None,
    topics: startup.NewTopics = startup.NewTopics(),  # noqa: B008 - a tuple, which nobody can change
    wait_s: float = 0.0,
) -> None:
    """Works until SIGTERM or SIGINT, then drains, checkpoints and leaves the group. Serves the metrics at `door`.

    `topics` states what to do about absent topics, and `wait_s` how long to wait for servers at the start.

    Raises:
        WeightsError: the weights cannot be used.
        OSError: `door` cannot be used, or a server does not answer in time.
        ValueError: topics are absent, and none may be created.
        RuntimeError: the worker cannot continue; nothing of the batch in flight was committed.
    """
    memory.keep_freed()
    startup.say_settings(settings)
    check_weights(settings.weights)
    await startup.reach(settings, wait_s)
    await asyncio.to_thread(startup.provide, settings, topics)
    await startup.await_coordinator(settings)
    async with asked_versions.announcements(settings) as announcements:
        app = await build(settings, announcements)
        async with _open(door, app.watch):
            await _work(app, settings)


@asynccontextmanager
async def _open(door: Address | None, watch: Monitor) -> AsyncIterator[None]:
    """Serves the HTTP pages from before the worker joins its group until it has left, so that both can be watched."""
    if door is None:
        yield
        return
    async with pages.serving(door, token(os.environ), watch.pages()) as address:
        log.info("metrics: http://%s/metrics", address)
        yield


async def _work(app: App, settings: Settings) -> None:
    memory.settle_garbage()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await app.delivery.start()
    lives = {
        "delivery": asyncio.create_task(app.delivery.run()),
        "consumer": asyncio.create_task(_crash_of(app)),
        "start": asyncio.create_task(app.start()),
        "report": asyncio.create_task(_report(app.delivery)),
        "watch": asyncio.create_task(app.watch.run()),
        "partitions": asyncio.create_task(app.watch_partitions()),
        "silence": asyncio.create_task(_silence(app.delivery, settings)),
        "client lines": asyncio.create_task(ClientLogFilter(lambda: app.watch.kafka_is_away).run()),
        "refusals": asyncio.create_task(AuthMonitor(settings.bootstrap, settings.kafka).run()),
        "stop": asyncio.create_task(stop.wait()),
        **({} if app.versions is None else {"versions": asyncio.create_task(app.versions.run())}),
    }
    failure = await _first_end(lives)
    try:
        async with asyncio.timeout(STOP_S):
            if failure is not None:
                lives["delivery"].cancel()
                app.delivery.abandon()
            await app.stop()
            await app.delivery.close()
    except Exception as error:
        failure = failure or RuntimeError(f"could not stop in {STOP_S:.0f} s ({error!r}); the next owner replays")
    for task in lives.values():
        task.cancel()
    for end in app.ends:
        await asyncio.to_thread(end)
    if failure is not None:
        said = kafka_refusal(settings.bootstrap, settings.kafka, failure) or failure
        raise RuntimeError(f"worker stopped: {said}") from failure


async def _crash_of(app: App) -> None:
    await app._crashed.wait()
    raise app.crash_reason or RuntimeError("Faust crashed and gave no reason")


async def _first_end(lives: dict[str, asyncio.Task[Any]]) -> BaseException | None:
    """Waits for the stop signal, and then returns None, or for the first failure, and returns that."""
    running = set(lives.values())
    while not lives["stop"].done():
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if (error := task.exception()) is not None:
                return error
    return None


async def _silence(delivery: Delivery, settings: Settings) -> None:
    await startup.notice_silence(
        settings.topics.pings, lambda: delivery.records[0], lambda: bool(delivery.ownership.owned)
    )


async def _report(delivery: Delivery) -> None:
    """Logs the throughput once a minute, if there was any."""
    answers = delivery.records[1]
    pacer = Pacer(delivery.records[0], time.monotonic())
    while True:
        await asyncio.sleep(LOOK_S)
        pings, now = delivery.records
        if (line := pacer.take_line(pings, time.monotonic())) is not None:
            log.info("%.1f pings/s in, %.1f records/s out", line.per_s, (now - answers) / line.seconds)
            answers = now
