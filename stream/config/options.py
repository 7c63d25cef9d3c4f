"""The command-line options that many commands share: those of `stream.config.security`, for every command that uses
Kafka or Redis, and those of `stream.config.traces`."""

from __future__ import annotations

import inspect
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from functools import wraps
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from stream.config.security import KafkaSecurity, Mechanism, Protocol, RedisSecurity, secret
from stream.config.settings import Settings
from stream.config.traces import Traces
from stream.wire import NO_TIME_MS

PANEL: Final = "Secured servers"  # of --help
TRACES: Final = "Traces"


def _option(name: str, kind: Any, default: Any, flag: str, text: str, panel: str = PANEL, **more: Any) -> Parameter:
    variable = "PATHCAST_" + flag.removeprefix("--").replace("-", "_").upper()
    option = typer.Option(flag, envvar=variable, help=text, rich_help_panel=panel, case_sensitive=False, **more)
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


_SHARE: Final[Any] = {"panel": TRACES, "min": 0, "max": 1}
# By the parameter that they replace.
_OPTIONS: Final = {
    "security": (
        _option("kafka_protocol", Protocol, Protocol.PLAINTEXT, "--kafka-security", "how to speak to Kafka"),
        _option("kafka_mechanism", Mechanism, Mechanism.SCRAM_SHA_512, "--kafka-mechanism", "of SASL"),
        _option(
            "kafka_user", str | None, None, "--kafka-user", "for SASL; password: PATHCAST_KAFKA_PASSWORD or ..._FILE"
        ),
        _option("kafka_ca", Path | None, None, "--kafka-ca", "CA of the brokers, PEM; default: this machine's CAs"),
        _option("kafka_cert", Path | None, None, "--kafka-cert", "our own certificate, PEM, if the brokers want one"),
        _option("kafka_key", Path | None, None, "--kafka-key", "its key, PEM, if that is in another file"),
    ),
    "redis_security": (
        _option(
            "redis_ca",
            Path | None,
            None,
            "--redis-ca",
            "CA for rediss://; password: PATHCAST_REDIS_PASSWORD or ..._FILE",
        ),
    ),
    "traces": (
        _option("trace_share", float, 0.0, "--trace-share", "of entities that are traced (extra otel)", **_SHARE),
        _option("trace_entity_ids", bool, False, "--trace-entity-ids", "in spans, instead of hashes", panel=TRACES),
    ),
}


def secured(command: Callable[..., None]) -> Callable[..., None]:
    """Returns the command with options in place of its parameters `security` (KafkaSecurity), `redis_security`
    (RedisSecurity) and `traces` (Traces).

    Typer has no options that several commands share, and reads them from a signature.
    """
    own = inspect.signature(command, eval_str=True).parameters
    named = [option for name in own for option in _OPTIONS.get(name, (own[name],))]

    @wraps(command)
    def filled(**given: Any) -> None:
        if "security" in own:
            given["security"] = KafkaSecurity(
                protocol=given.pop("kafka_protocol"),
                mechanism=given.pop("kafka_mechanism"),
                user=given.pop("kafka_user"),
                password=secret("KAFKA_PASSWORD"),
                ca=given.pop("kafka_ca"),
                certificate=given.pop("kafka_cert"),
                key=given.pop("kafka_key"),
            )
        if "redis_security" in own:
            given["redis_security"] = RedisSecurity(secret("REDIS_PASSWORD"), given.pop("redis_ca"))
        if "traces" in own:
            given["traces"] = Traces(given.pop("trace_share"), given.pop("trace_entity_ids"))
        command(**given)

    by_name = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in named]
    filled.__signature__ = inspect.Signature(by_name)  # type: ignore[attr-defined]
    filled.__annotations__ = {parameter.name: parameter.annotation for parameter in by_name}
    del filled.__wrapped__  # `get_type_hints` would read it instead
    return filled


def option(flag: str, env: str, text: str, **more: Any) -> Any:
    """Returns an option that the variable PATHCAST_`env` sets, too."""
    return typer.Option(flag, envvar=f"PATHCAST_{env}", help=text, **more)


DEFAULT_BOOTSTRAP = Settings.bootstrap
DEFAULT_PREFIX = Settings.prefix

Bootstrap = Annotated[
    str, typer.Option("--bootstrap", envvar="PATHCAST_BOOTSTRAP", help="Kafka, host:port[,host:port...]")
]
Prefix = Annotated[str, typer.Option("--prefix", envvar="PATHCAST_PREFIX", help="how every topic name begins")]
RegistryUrl = Annotated[
    str,
    typer.Option(
        "--registry",
        envvar="PATHCAST_REGISTRY",
        help="where versions lie: a directory, or a URL such as s3://bucket/pathcast (extra s3)",
    ),
]
RegistryCache = Annotated[
    Path | None,
    typer.Option(
        "--registry-cache",
        envvar="PATHCAST_REGISTRY_CACHE",
        file_okay=False,
        help="where versions of a remote registry are kept; default: in the user's cache",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]


class Start(StrEnum):
    """Where a command begins that follows a topic."""

    EARLIEST = "earliest"
    LATEST = "latest"


From = Annotated[Start, typer.Option("--from", help="the oldest record kept, or only new ones")]
OnlyEntity = Annotated[str | None, typer.Option("--entity", help="only this entity's records")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="stop after so many records")]
Follow = Annotated[bool, typer.Option("--follow/--no-follow", help="wait for more, or stop at the present end")]


@contextmanager
def quiet() -> Iterator[None]:
    """Hides log lines of the Kafka client during a command, and treats a closed pipe (`| head`) as a normal end.

    Errors reach us as exceptions, which the root command turns into one line.
    """
    for name in ("kafka", "aiokafka"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout once more at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def log_to_stderr() -> None:
    """Shows the log of a command that runs for ever: its own lines, and what others warn of."""
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("stream").setLevel(logging.INFO)
    # They log twenty lines a second while a broker is away. The commands say it every ten seconds.
    for name in ("kafka", "aiokafka"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def utc(ts_ms: int) -> str:
    """Returns a time for people; the number, if no calendar has that time, since a sender may write any."""
    if ts_ms == NO_TIME_MS:
        return "no time"
    try:
        return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):  # beyond the year 9999, a float, or what C's time functions take
        return str(ts_ms)
