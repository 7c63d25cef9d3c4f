"""`pathcast worker`: defines the options and their environment variables, and makes the first checks."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.adapters.live.option import MapOption
from stream.commands.main import one_line, unknown_variables
from stream.config import failpoints
from stream.config.http_access import Address, check_free, token
from stream.config.options import (
    DEFAULT_HORIZONS,
    SERVERS,
    Horizons,
    Metrics,
    Servers,
    Weights,
    horizons_of,
    option,
    with_common,
)
from stream.config.settings import NO_TRACES, Compression, DeliveryGuarantee, Settings, Traces
from stream.worker import process_pool
from stream.worker.log_format import LogFormat, formatter, relayed

if TYPE_CHECKING:
    from stream.worker.startup import NewTopics  # kafka-python takes half a second to import, too long for --help

log = logging.getLogger(__name__)

REPEAT_S = 30.0  # between two equal lines of a client library
# A worker logs this line when it has taken over its assigned partitions (stream.delivery.delivery). A log level above
# info hides it, and an idle worker never logs it: in both cases a worker counts as ready after a minute
# (stream.worker.process_pool).
READY = "ready: partitions"
# The command of one of several workers. -P: modules of the current directory are not imported, as with the `pathcast`
# script.
MEMBER = (
    sys.executable,
    "-P",
    "-c",
    "from stream.commands.main import main; from stream.processes.child import end_with_parent; "
    "end_with_parent(); main(is_part=True)",
)


@with_common
def worker(
    context: typer.Context,
    servers: Servers = SERVERS,
    weights: Weights = Settings.weights,
    create: Annotated[
        bool, option("--create/--no-create", "CREATE", "create the topics that do not exist, or name them and stop")
    ] = True,
    partitions: Annotated[
        int | None,
        option("--partitions", "PARTITIONS", "partitions of new topics; default: the broker's", min=1, max=10000),
    ] = None,
    replication: Annotated[
        int | None,
        option("--replication", "REPLICATION", "replicas of new topics; default: the broker's", min=1, max=100),
    ] = None,
    wait_s: Annotated[
        float, option("--wait-s", "WAIT_S", "how long to wait for Kafka and Redis at the start", min=0, max=86400)
    ] = 0.0,
    horizons: Horizons = DEFAULT_HORIZONS,
    max_batch: Annotated[
        int, option("--max-batch", "MAX_BATCH", "pings that go through the model together", min=1, max=65_536)
    ] = Settings.max_batch,
    max_wait_ms: Annotated[
        float, option("--max-wait-ms", "MAX_WAIT_MS", "how long a ping waits for others", min=0, max=10000)
    ] = Settings.max_wait_ms,
    checkpoint_ms: Annotated[
        float, option("--checkpoint-ms", "CHECKPOINT_MS", "time between two checkpoints", min=0, max=600000)
    ] = Settings.checkpoint_ms,
    max_entities: Annotated[
        int, option("--max-entities", "MAX_ENTITIES", "most entities in memory, 12 KB each", min=1)
    ] = Settings.max_entities,
    max_stored_entities: Annotated[
        int,
        option(
            "--max-stored-entities",
            "MAX_STORED_ENTITIES",
            "most entities of a partition in Redis, 4 to 12 KB each; pings of further ones become dead letters",
            min=1,
        ),
    ] = Settings.max_stored_entities,
    session_timeout_s: Annotated[
        float, option("--session-timeout-s", "SESSION_TIMEOUT_S", "how soon others see a dead worker", min=6, max=1_800)
    ] = Settings.session_timeout_s,
    delivery: Annotated[
        DeliveryGuarantee,
        option("--delivery", "DELIVERY", "exactly_once: for read_committed subscribers; a transaction per partition"),
    ] = DeliveryGuarantee.AT_LEAST_ONCE,
    compression: Annotated[
        Compression,
        option("--compression", "COMPRESSION", "of published records; zstd: a sixth to a fourth of the bytes"),
    ] = Compression.NONE,
    atlases: Annotated[
        Path | None,
        option(
            *("--atlases", "ATLASES", "directory of the fleet's atlases; announced versions are used"),
            exists=True,
            file_okay=False,
        ),
    ] = None,
    registry: Annotated[
        str | None, option("--registry", "REGISTRY", "registry of weights; announced versions are used")
    ] = None,
    map_: MapOption = None,
    lead_s: Annotated[
        float,
        option("--lead-s", "LEAD_S", "how far ahead versions are announced; half of it is the longest wait", min=0.1),
    ] = Settings.lead_s,
    instance: Annotated[
        str,
        option("--instance", "INSTANCE", "a name that stays over restarts: then a quick restart moves no partition"),
    ] = "",
    metrics: Metrics = "",
    traces: Traces = NO_TRACES,
    workers: Annotated[int, option("--workers", "WORKERS", "processes to start, one per core", min=1, max=256)] = 1,
    log_level: Annotated[str, option("--log-level", "LOG_LEVEL", "debug, info, warning or error")] = "info",
    log_format: Annotated[
        LogFormat, option("--log-format", "LOG_FORMAT", "json: an object per line, for programs")
    ] = LogFormat.TEXT,
    warms: Annotated[
        bool, typer.Option("--warm", help="only compile the kernels for this machine, and keep them on disk")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print what --warm did as JSON")] = False,
    member: Annotated[int | None, typer.Option("--member", hidden=True, help="which of several workers it is")] = None,
) -> None:
    """Forecast every ping: read the pings topic, keep each entity's state, publish forecasts and gap fills.

    Start as many workers as you like: those of one group share the partitions, and take over from each other when one
    stops or dies. SIGTERM or Ctrl-C finishes the batch in flight, saves the states and ends; kill -9 loses nothing
    either.

    --workers N starts N workers here, one process per core, and starts one again when it dies. Each line of their logs
    begins with the worker's name, such as "worker 2 |". If there are more workers than partitions, some are idle.

    The first worker on a machine compiles its kernels, which takes half a minute or more; later ones load them. --warm
    does that alone: in an init container, or when a machine is set up. They are kept beside the package, or where no
    file can be written there, in the user's cache or in NUMBA_CACHE_DIR; other processors, and other releases, need
    others.

    [bold]Examples[/]

      pathcast worker
      pathcast worker --bootstrap kafka:9092 --redis redis://redis:6379/0
      pathcast worker --workers 4
      pathcast worker --weights ./my-weights --horizons 30,60,120
      PATHCAST_BOOTSTRAP=kafka:9092 PATHCAST_REDIS=redis://redis:6379/0 pathcast worker
      NUMBA_CACHE_DIR=/var/cache/pathcast pathcast worker --warm --weights ./my-weights
    """
    if warms:
        from stream.worker.warmup import warm_machine

        warm_machine(weights, as_json=as_json)
        return
    settings = servers.settings(
        weights=weights,
        horizons_s=horizons_of(horizons),
        max_batch=max_batch,
        max_wait_ms=max_wait_ms,
        checkpoint_ms=checkpoint_ms,
        max_entities=max_entities,
        max_stored_entities=max_stored_entities,
        session_timeout_s=session_timeout_s,
        delivery=delivery,
        compression=compression,
        atlases=atlases,
        registry=registry,
        map=map_,
        lead_s=lead_s,
        instance=instance,
        trace_share=traces.share,
        trace_entity_ids=traces.entity_ids,
    )
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    doors = _doors(metrics, workers)
    _log_to_stderr(log_level, log_format, member)
    with _failures_in(log_format):
        if member is None:  # else the parent process has logged it
            for line in () if context.obj else unknown_variables(context):
                log.warning("%s", line)
        for door in filter(None, doors):
            check_free(door)
        from stream.worker import startup

        topics = startup.NewTopics(create, partitions, replication)
        if workers == 1:
            from stream.worker.app import serve  # imports Faust and numba, which takes seconds: check the port first

            asyncio.run(serve(settings, doors[0], topics, wait_s))
        else:
            _run_many(settings, doors, topics, wait_s, log_format)


def _run_many(
    settings: Settings, doors: Sequence[Address | None], topics: NewTopics, wait_s: float, log_format: LogFormat
) -> None:
    """Starts a process for each address, once servers answer. Each creates the topics only after it has checked its
    weights."""
    from stream.worker import startup

    asyncio.run(startup.reach(settings, wait_s))
    if not topics.allowed:
        startup.provide(settings, topics)
    # The processes get our options as they were given, so that values of environment variables, such as a password, do
    # not appear in `ps`. If an option is given twice, the last one counts.
    ours = [*MEMBER, *sys.argv[1:], "--workers=1"]
    theirs = [
        [f"--member={number}", f"--metrics={door or ''}", *_instance(settings.instance, number)]
        for number, door in enumerate(doors, 1)
    ]
    process_pool.run([ours + options for options in theirs], ready=READY, shown=partial(relayed, log_format))


def _doors(metrics: str, workers: int) -> list[Address | None]:
    """Returns where each worker serves its metrics: the first at the given address, the others at the next ports."""
    if not metrics:
        return [None] * workers
    try:
        first = Address.parse(metrics)
        token(os.environ)  # an unreadable token is reported now, and only once
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--metrics") from None
    if first.port and first.port + workers > 65_536:
        raise typer.BadParameter(f"no {workers} ports from {first.port} on", param_hint="--metrics")
    return [first._replace(port=first.port and first.port + number) for number in range(workers)]


def _instance(name: str, number: int) -> list[str]:
    """Gives each worker its own instance name: two members with the same name would fence each other."""
    return [f"--instance={name}-{number}"] if name else []


class Seldom(logging.Filter):
    """Passes an equal line of a client only once in `every_s`: aiokafka logs twenty a second while a broker is away."""

    def __init__(self, every_s: float) -> None:
        super().__init__()
        self._every_s = every_s
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith("stream"):
            return True
        key = record.name, str(record.msg)
        if record.created - self._said.get(key, float("-inf")) < self._every_s:
            return False
        self._said[key] = record.created
        return True


def _log_to_stderr(level: str, log_format: LogFormat, member: int | None) -> None:
    if level.lower() not in ("debug", "info", "warning", "error"):
        raise typer.BadParameter(f"not a level: {level!r}", param_hint="--log-level")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(log_format, member))
    handler.addFilter(Seldom(REPEAT_S))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.captureWarnings(log_format is LogFormat.JSON)
    logging.getLogger("stream").setLevel(level.upper())
    # kafka-python only creates topics at the start. Its errors are exceptions, which we report in one line.
    logging.getLogger("kafka").setLevel(logging.CRITICAL + 1)
    # The consumer's thread ends with an exception when it is stopped while the broker is away; one line is enough.
    threading.excepthook = lambda args: log.warning(
        "thread %s ended: %r", args.thread.name if args.thread else "?", args.exc_value
    )
    if level.lower() == "debug":
        for name in ("faust", "mode", "aiokafka"):
            logging.getLogger(name).setLevel(logging.INFO)


@contextmanager
def _failures_in(log_format: LogFormat) -> Iterator[None]:
    """With JSON logs, logs the error that ends the worker, too. With text logs, the root command shows it."""
    try:
        yield
    except typer.Exit:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        if log_format is LogFormat.TEXT:
            raise
        log.error("%s", one_line(error))
        raise typer.Exit(1) from error
    except Exception:
        if log_format is LogFormat.TEXT:
            raise
        log.critical("this is a bug of pathcast", exc_info=True)
        raise typer.Exit(1) from None
