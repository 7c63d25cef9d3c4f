"""Lists the parts that `pathcast up` runs: each is a command of pathcast. A new part is one more row of `table`. The
services beside the workers are rows of their own, of which `join_services` makes one process.

Options here are only what makes the parts one whole: directories, ports. Servers, users and secrets are in the
environment of the children (`environment`), because `ps` shows options to everybody. Other settings come from the
variables that each command reads, such as PATHCAST_WEIGHTS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from stream.config.home import Home
from stream.config.http_access import Address
from stream.config.security import KafkaSecurity, RedisSecurity
from stream.processes.child import ONE_THREAD, Child
from stream.worker.cli import MEMBER, READY

# Of several processes, each would have the same.
_NOT_INHERITED: Final = ("PATHCAST_METRICS", "PATHCAST_WORKERS", "PATHCAST_INSTANCE")

BESIDE: Final = "beside"  # the command of services, and the name of the process of all of them


class Addresses(NamedTuple):
    """The addresses of the parts: `metrics` is that of the first worker; the other workers, and the services beside
    them, have the ports after it."""

    metrics: Address | None
    serve: Address
    ingest: Address
    map: Address | None  # None: that of `serve`, whose process shows the map, too


class Part(NamedTuple):
    """One process that is kept running."""

    name: str  # its log is NAME.log
    kind: str  # what --without names
    command: tuple[str, ...]  # of pathcast
    needs: Mapping[str, str] = {}  # modules, and the extra of pathcast that installs each
    wants: tuple[str, ...] = ()  # kinds without which it has nothing to do
    listens: Address | None = None  # where others reach it, beside its metrics
    paths: tuple[str, ...] = ()  # of its pages there
    ready: str = ""  # what its log says once it is; "": nobody waits for that

    @property
    def answers_pings(self) -> bool:
        """Returns whether it drains before all others stop."""
        return self.kind == "worker"


KINDS: Final = (
    "worker",
    "atlas",
    "archive",
    "scores",
    "guard",
    "latest",
    "serve",
    "arrivals",
    "transit",
    "ingest",
    "refresh",
    "map",
)


def table(
    home: Home,
    workers: int,
    at: Addresses,
    *,
    maps: Mapping[str, str],
    history: str,
    finds_drift: bool,
    of_atlas: Sequence[str] = (),
    gtfs: Path | None = None,
) -> list[Part]:
    """Returns all parts. `maps` has what is taken by HTTP, by path; `history` is where arrivals find the fleet's
    earlier tracks; `of_atlas` are the options that say what the first version of the atlas is made of; `gtfs` is the
    schedule of the fleet, if it has one."""
    registry = ("--registry", str(home.registry))
    doors = [None if at.metrics is None else str(door) for door in addresses_from(at.metrics, workers)]
    every = ("--every", "24h", "--since", "7d")
    shown = ("--map",) if at.map is None else ()
    return [
        *(
            worker_part(f"worker-{number}", "--atlases", str(home.atlases), *registry, "--workers=1", *_metrics(door))
            for number, door in enumerate(doors, 1)
        ),
        Part("atlas", "atlas", (BESIDE, "atlas", "--atlases", str(home.atlases), *of_atlas)),
        Part("archive", "archive", (BESIDE, "archive", "--archive", str(home.archive)), {"pyarrow": "readers"}),
        Part("scores", "scores", (BESIDE, "scores", *([] if finds_drift else ["--no-drift"]))),
        Part("guard", "guard", (BESIDE, "guard", *registry), wants=("scores",)),
        Part("latest", "latest", (BESIDE, "latest")),
        Part(
            name="serve",
            kind="serve",
            command=("serve", *shown, "--listen", str(at.serve), *registry, "--atlases", str(home.atlases)),
            listens=at.serve,
            paths=("/openapi.json", *(["/ (the live map)"] if shown else [])),
        ),
        Part("arrivals", "arrivals", (BESIDE, "arrivals", "--history", history)),
        *([] if gtfs is None else [transit_part(gtfs, home)]),
        Part(
            name="ingest",
            kind="ingest",
            command=("ingest", "http", "--listen", str(at.ingest), *(f"--map={one}" for one in maps.values())),
            listens=at.ingest,
            paths=tuple(maps),
        ),
        Part(
            name="refresh",
            kind="refresh",
            command=("train", "refresh", *every, *registry, "--dir", str(home.refresh), "--archive", str(home.archive)),
            needs={"torch": "train", "pyarrow": "readers"},
            wants=("archive",),
        ),
        *([] if at.map is None else [map_part(at.map, home.atlases)]),
    ]


def transit_part(gtfs: Path, home: Home) -> Part:
    """Returns what predicts by a schedule."""
    options = ("--gtfs", str(gtfs), "--transit-state", str(home.transit))
    return Part("transit", "transit", (BESIDE, "transit", *options), {"pyarrow": "readers"})


def worker_part(name: str, *options: str) -> Part:
    """Returns one worker."""
    return Part(name, "worker", ("worker", *options), ready=READY)


def map_part(address: Address, atlases: Path, *options: str) -> Part:
    """Returns the map as a process of its own."""
    command = ("map", "--listen", str(address), "--atlases", str(atlases), *options)
    return Part("map", "map", command, listens=address, paths=("/",), ready=f"listening at http://{address}")


def join_services(parts: list[Part], metrics: Address | None, workers: int) -> list[Part]:
    """Returns the parts with one process in the place of all services beside the workers."""
    beside = [part for part in parts if part.command[0] == BESIDE]
    if not beside:
        return parts
    names = ",".join(part.kind for part in beside)
    options = [word for part in beside for word in part.command[2:]]
    door = addresses_from(metrics, workers + 1)[-1]
    one = Part(BESIDE, BESIDE, (BESIDE, names, *options, *_metrics(None if door is None else str(door))))
    place = parts.index(beside[0])
    return [*parts[:place], one, *(part for part in parts[place:] if part not in beside)]


def history_of(home: Home, topic: str, *, reads_archive: bool) -> str:
    """Returns where arrivals find earlier tracks: in the archive of the pings topic, or else in what that still has."""
    return f"archive:{home.archive_of(topic)}?since=7d" if reads_archive else "topic"


def atlas_options(given: str | None, columns: str | None, zone: str | None, home: Home, topic: str) -> list[str]:
    """Returns the options of the atlas that `up --history` asks for: a recording, `topic`, or `archive`, which is our
    own; none before anything has landed there. Raises ValueError if it is wrong or has no pings, FileNotFoundError."""
    if given is None:
        if columns is not None or zone is not None:
            raise ValueError("--columns and --timezone are for --history")
        return []
    from stream.atlas.counting.history import History
    from stream.services.arrivals.history.sources import ARCHIVE, is_empty

    if given == ARCHIVE:
        given = f"{ARCHIVE}:{home.archive_of(topic)}"
        if not home.archive_of(topic).exists() or is_empty(given):
            return []
    elif Path(given).exists():
        given = str(Path(given).absolute())
    History.of(given, columns, zone)
    named = [] if columns is None else ["--atlas-columns", columns]
    return ["--atlas-history", given, *named, *([] if zone is None else ["--atlas-timezone", zone])]


def addresses_from(first: Address | None, count: int) -> list[Address | None]:
    """Returns so many addresses: the ports from the first one on, or any free ones if that is 0."""
    if first is None:
        return [None] * count
    if first.port and first.port + count > 65_536:
        raise ValueError(f"--metrics: there are no {count} ports from {first.port} on")
    return [first._replace(port=first.port and first.port + number) for number in range(count)]


def _metrics(door: str | None) -> tuple[str, ...]:
    return ("--metrics", door) if door else ()


def choose(
    parts: list[Part], without: frozenset[str], installed: Callable[[str], bool]
) -> tuple[list[Part], list[str]]:
    """Returns the parts that can run here, and a line for each that is left out although nobody asked for that."""
    chosen: list[Part] = []
    lines: list[str] = []
    for part in parts:
        if part.kind in without:
            continue
        if (reason := _hindrance(part, {one.kind for one in chosen}, installed)) is None:
            chosen.append(part)
        else:
            lines.append(f"without {part.name}: {reason}")
    return chosen, lines


def _hindrance(part: Part, chosen: set[str], installed: Callable[[str], bool]) -> str | None:
    extras = list(dict.fromkeys(extra for module, extra in part.needs.items() if not installed(module)))
    if extras:
        return f"it needs pip install 'pathcast[{','.join(extras)}]'"
    if absent := [kind for kind in part.wants if kind not in chosen]:
        return f"it needs {absent[0]}, which does not run"
    return None


def start(part: Part, env: Mapping[str, str], on_line: Callable[[str], None], **more: Any) -> Child:
    """Starts the command of a part. `more` is as `Child` takes it. Raises OSError."""
    return Child([*MEMBER, *part.command], env=env, on_line=on_line, **more)


def environment(
    ours: Mapping[str, str], bootstrap: str, redis: str, prefix: str, kafka: KafkaSecurity, store: RedisSecurity
) -> dict[str, str]:
    """Returns the environment of all parts: ours, and where the servers are. Passwords are in ours, and stay there."""
    given = {
        "BOOTSTRAP": bootstrap,
        "REDIS": redis,
        "PREFIX": prefix,
        "KAFKA_SECURITY": kafka.protocol.value,
        "KAFKA_MECHANISM": kafka.mechanism.value,
        "KAFKA_USER": kafka.user,
        "KAFKA_CA": kafka.ca,
        "KAFKA_CERT": kafka.certificate,
        "KAFKA_KEY": kafka.key,
        "REDIS_CA": store.ca,
    }
    # Workers of two prefixes would share a group otherwise.
    ours = {"PATHCAST_GROUP": prefix, **ours}
    kept = {name: value for name, value in ours.items() if name not in _NOT_INHERITED}
    return {**kept, **ONE_THREAD, **{f"PATHCAST_{name}": str(value) for name, value in given.items() if value}}
