"""Declares the command-line options that several commands share, once each.

    @with_common
    def tail(what: Annotated[...], common: Common = COMMON, json: Json = False) -> None:

A parameter whose type is a group of options (`Common`, `KafkaSecurity`, `RedisSecurity`, `Traces`, or a dataclass of
options) gives a command all options of that group. The function gets them as one value.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import wraps
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from stream.config.security import PLAIN_KAFKA, PLAIN_REDIS, KafkaSecurity, Mechanism, Protocol, RedisSecurity, secret
from stream.config.settings import DEFAULT_HORIZONS_S, Settings, Traces
from stream.wire import NO_TIME_MS, Topics

PANEL: Final = "Secured servers"  # of --help
TRACES: Final = "Traces"


def _option(name: str, kind: Any, default: Any, flag: str, text: str, panel: str = PANEL, **more: Any) -> Parameter:
    variable = "PATHCAST_" + flag.removeprefix("--").replace("-", "_").upper()
    option = typer.Option(flag, envvar=variable, help=text, rich_help_panel=panel, case_sensitive=False, **more)
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


_SHARE: Final[Any] = {"panel": TRACES, "min": 0, "max": 1}


def _kafka_security(values: dict[str, Any]) -> KafkaSecurity:
    return KafkaSecurity(
        protocol=values.pop("kafka_protocol"),
        mechanism=values.pop("kafka_mechanism"),
        user=values.pop("kafka_user"),
        password=secret("KAFKA_PASSWORD"),
        ca=values.pop("kafka_ca"),
        certificate=values.pop("kafka_cert"),
        key=values.pop("kafka_key"),
    )


# By the class that they fill: the options, and what makes the class of their values, which it takes away.
_OPTIONS: Final[dict[Any, tuple[tuple[Parameter, ...], Callable[[dict[str, Any]], Any]]]] = {
    KafkaSecurity: (
        (
            _option("kafka_protocol", Protocol, Protocol.PLAINTEXT, "--kafka-security", "how to speak to Kafka"),
            _option("kafka_mechanism", Mechanism, Mechanism.SCRAM_SHA_512, "--kafka-mechanism", "of SASL"),
            _option(
                *("kafka_user", str | None, None, "--kafka-user"),
                "for SASL; password: PATHCAST_KAFKA_PASSWORD or ..._FILE",
            ),
            _option("kafka_ca", Path | None, None, "--kafka-ca", "CA of the brokers, PEM; default: this machine's CAs"),
            _option(
                "kafka_cert", Path | None, None, "--kafka-cert", "our own certificate, PEM, if the brokers want one"
            ),
            _option("kafka_key", Path | None, None, "--kafka-key", "its key, PEM, if that is in another file"),
        ),
        _kafka_security,
    ),
    RedisSecurity: (
        (
            _option(
                *("redis_ca", Path | None, None, "--redis-ca"),
                "CA for rediss://; password: PATHCAST_REDIS_PASSWORD or ..._FILE",
            ),
        ),
        lambda values: RedisSecurity(secret("REDIS_PASSWORD"), values.pop("redis_ca")),
    ),
    Traces: (
        (
            _option("trace_share", float, 0.0, "--trace-share", "of entities that are traced (extra otel)", **_SHARE),
            _option("trace_entity_ids", bool, False, "--trace-entity-ids", "in spans, instead of hashes", panel=TRACES),
        ),
        lambda values: Traces(values.pop("trace_share"), values.pop("trace_entity_ids")),
    ),
}


def with_common(command: Callable[..., None]) -> Callable[..., None]:
    """Returns the command with options in place of each parameter whose type is a group of options.

    Typer has no options that several commands share, and reads them from a signature.
    """
    own = inspect.signature(command, eval_str=True).parameters.values()
    by_name = [option for parameter in own for option in _options_of(parameter)]

    @wraps(command)
    def run(**values: Any) -> None:
        command(**{parameter.name: _value_of(parameter, values) for parameter in own})

    run.__signature__ = inspect.Signature(by_name)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in by_name}
    del run.__wrapped__  # `get_type_hints` would read it instead
    return run


def _options_of(parameter: Parameter) -> list[Parameter]:
    """Returns the options that a parameter stands for: its own, or those of its group."""
    if (known := _OPTIONS.get(parameter.annotation)) is not None:
        return list(known[0])
    return [option for one in _fields_of(parameter) for option in _options_of(one)] or [
        parameter.replace(kind=Parameter.KEYWORD_ONLY)
    ]


def _value_of(parameter: Parameter, values: dict[str, Any]) -> Any:
    """Takes what was given for a parameter's options, and returns the parameter's value."""
    if (known := _OPTIONS.get(parameter.annotation)) is not None:
        return known[1](values)
    if fields := _fields_of(parameter):
        return parameter.annotation(**{one.name: _value_of(one, values) for one in fields})
    return values.pop(parameter.name)


def _fields_of(parameter: Parameter) -> list[Parameter]:
    """Returns the fields of a dataclass of options, none of any other parameter."""
    if not is_dataclass(parameter.annotation):
        return []
    group: Any = parameter.annotation
    return list(inspect.signature(group, eval_str=True).parameters.values())


def option(flag: str, env: str, text: str, **more: Any) -> Any:
    """Returns an option that the variable PATHCAST_`env` sets, too."""
    return typer.Option(flag, envvar=f"PATHCAST_{env}", help=text, **more)


Bootstrap = Annotated[
    str, typer.Option("--bootstrap", envvar="PATHCAST_BOOTSTRAP", help="Kafka, host:port[,host:port...]")
]
Group = Annotated[str, option("--group", "GROUP", "Kafka consumer group of the workers")]
Weights = Annotated[str, option("--weights", "WEIGHTS", "a bundled name or a directory")]
Horizons = Annotated[str, option("--horizons", "HORIZONS", "seconds ahead, separated by commas")]
DEFAULT_HORIZONS = ",".join(f"{h:g}" for h in DEFAULT_HORIZONS_S)
Prefix = Annotated[str, option("--prefix", "PREFIX", "how every topic name begins")]


@dataclass(frozen=True)
class Common:
    """Holds where Kafka is, how to speak to it, and how the names of its topics begin."""

    bootstrap: Bootstrap = Settings.bootstrap
    prefix: Prefix = Settings.prefix
    security: KafkaSecurity = PLAIN_KAFKA

    @property
    def topics(self) -> Topics:
        return Topics.of(self.prefix)


COMMON: Final = Common()


@dataclass(frozen=True)
class Servers:
    """Holds where the workers' servers are, and how the workers share them."""

    common: Common = COMMON
    redis: Annotated[str, option("--redis", "REDIS", "Redis or Valkey, where states are checkpointed")] = field(
        default=Settings.redis_url,
        repr=False,  # it may hold a password
    )
    group: Group = Settings.group
    redis_security: RedisSecurity = PLAIN_REDIS

    def settings(self, **others: Any) -> Settings:
        """Returns the settings of a worker there. Raises ValueError for one that no worker can have."""
        return Settings(
            bootstrap=self.common.bootstrap,
            prefix=self.common.prefix,
            kafka=self.common.security,
            redis_url=self.redis,
            redis=self.redis_security,
            group=self.group,
            **others,
        )


SERVERS: Final = Servers()
RegistryUrl = Annotated[
    str,
    option(
        "--registry", "REGISTRY", "where versions lie: a directory, or a URL such as s3://bucket/pathcast (extra s3)"
    ),
]
RegistryCache = Annotated[
    Path | None,
    option(
        "--registry-cache",
        "REGISTRY_CACHE",
        "where versions of a remote registry are kept; default: in the user's cache",
        file_okay=False,
    ),
]
Metrics = Annotated[
    str, option("--metrics", "METRICS", "serve /metrics, /healthz and /readyz at HOST:PORT, or a loopback PORT")
]
BasemapText = Annotated[
    str | None,
    option(
        "--basemap",
        "MAP_BASEMAP",
        "streets below the map's fleet: a PMTiles file, or the address of tiles, such as https://HOST/{z}/{x}/{y}.png, "
        "whose host then sees which area is looked at; after a # whom to credit. Not a style's address",
        metavar="FILE|ADDRESS",
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


def horizons_of(text: str) -> tuple[float, ...]:
    """Parses horizons. Raises Typer's error for what is no number."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"not seconds separated by commas: {text!r}", param_hint="--horizons") from None


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
