"""The settings of `pathcast serve` and `pathcast map`, beside those that they share with a worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from stream.api.map.sources.basemap import Basemap
from stream.config.http_access import Address
from stream.config.settings import NO_TRACES, Settings, Traces

PAGE: Final = Path(__file__).parent / "map" / "page"
Kind = Literal["latest", "forecasts"]
KINDS: Final[tuple[Kind, ...]] = ("latest", "forecasts")


@dataclass(frozen=True)
class ServerOptions:
    """The address of a process, and its bounds."""

    address: Address
    rate_per_s: float = 50.0  # requests of one client
    burst: float = 100.0
    behind_proxy: bool = False
    most_connections: int = 1_024
    most_streams: int = 200


@dataclass(frozen=True)
class ApiOptions:
    """The settings of the API."""

    token: str | None = None
    origins: tuple[str, ...] = ()
    most_entities: int = 100_000  # in memory, at some 1.3 KB each
    keep_s: float = 3_600.0  # in memory, after the last forecast; a session ends as soon
    stale_s: float = 3_600.0
    registry_cache: Path | None = None
    traces: Traces = NO_TRACES


@dataclass(frozen=True)
class MapOptions:
    """The settings of the map."""

    token: str | None = None
    source: Kind | None = None  # None: the latest topic, if there is one
    basemap: Basemap | None = None
    title: str = "pathcast"
    folder: Path = PAGE
    most_entities: int = 20_000
    keep_s: float = 600.0
    stale_s: float = 300.0
    expire_s: float = 3_600.0


@dataclass(frozen=True)
class ServeOptions:
    """The settings of one process, which serves the API, the map, or both."""

    settings: Settings
    server: ServerOptions
    api: ApiOptions | None = None  # None: its routes are off
    map: MapOptions | None = None
