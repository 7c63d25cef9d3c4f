"""Writes tables of PostgreSQL with PostGIS: a row for each forecast, and one for each of its horizons.

    forecasts             forecast_id (key), entity_id, ts, published, position, next_ts, next_position, status,
                          model_version
    forecast_positions    forecast_id, h_s (together the key), ts, position, cov_ee_m2, cov_en_m2, cov_nn_m2
    forecasts_newest      view: the newest forecast of each entity
    positions_newest      view: its horizons, with entity_id

Positions are geometry(Point, 4326), times are timestamptz, covariances m². A batch is one transaction. A copy of a
forecast, which has the same id, is written over itself, so that no row is ever doubled.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import psycopg
from psycopg import sql

from stream.client.reader import Received
from stream.config import failpoints
from stream.config.security import Refused
from stream.wire import Forecast
from stream.wire.positions import next_place

CONNECT_S: Final = 10
LOCK: Final = 0x70617468  # of who creates the tables: two at once would collide in PostgreSQL's catalogue
REFUSALS: Final = (
    "authentication failed",
    "no password supplied",
    "permission denied",
    "does not exist",
    "pg_hba.conf",
)

CREATE: Final = """
CREATE TABLE IF NOT EXISTS {schema}.forecasts (
    forecast_id text PRIMARY KEY,
    entity_id text NOT NULL,
    ts timestamptz NOT NULL,
    published timestamptz NOT NULL,
    position geometry(Point, 4326) NOT NULL,
    next_ts timestamptz NOT NULL,
    next_position geometry(Point, 4326) NOT NULL,
    status text NOT NULL,
    model_version text NOT NULL
);
CREATE INDEX IF NOT EXISTS forecasts_entity_ts ON {schema}.forecasts (entity_id, ts DESC);
CREATE INDEX IF NOT EXISTS forecasts_position ON {schema}.forecasts USING gist (position);
CREATE TABLE IF NOT EXISTS {schema}.forecast_positions (
    forecast_id text NOT NULL REFERENCES {schema}.forecasts ON DELETE CASCADE,
    h_s double precision NOT NULL,
    ts timestamptz NOT NULL,
    position geometry(Point, 4326) NOT NULL,
    cov_ee_m2 double precision NOT NULL,
    cov_en_m2 double precision NOT NULL,
    cov_nn_m2 double precision NOT NULL,
    PRIMARY KEY (forecast_id, h_s)
);
CREATE INDEX IF NOT EXISTS forecast_positions_position ON {schema}.forecast_positions USING gist (position);
CREATE OR REPLACE VIEW {schema}.forecasts_newest AS
    SELECT DISTINCT ON (entity_id) * FROM {schema}.forecasts ORDER BY entity_id, ts DESC, published DESC;
CREATE OR REPLACE VIEW {schema}.positions_newest AS
    SELECT newest.entity_id, newest.ts AS anchor_ts, ahead.*
    FROM {schema}.forecasts_newest newest JOIN {schema}.forecast_positions ahead USING (forecast_id);
"""
# Times come as milliseconds UTC. Statements with arrays take a batch at once, in one round trip.
FORECASTS: Final = """
INSERT INTO {schema}.forecasts
SELECT id, entity, to_timestamp(ts / 1000.0), to_timestamp(published / 1000.0),
    ST_SetSRID(ST_MakePoint(lon, lat), 4326), to_timestamp(next_ts / 1000.0),
    ST_SetSRID(ST_MakePoint(next_lon, next_lat), 4326), status, version
FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::float8[], %s::float8[], %s::bigint[], %s::float8[],
    %s::float8[], %s::text[], %s::text[])
    AS given (id, entity, ts, published, lat, lon, next_ts, next_lat, next_lon, status, version)
ON CONFLICT (forecast_id) DO UPDATE SET published = excluded.published, position = excluded.position,
    next_ts = excluded.next_ts, next_position = excluded.next_position, status = excluded.status
"""
POSITIONS: Final = """
INSERT INTO {schema}.forecast_positions
SELECT id, h_s, to_timestamp(ts / 1000.0), ST_SetSRID(ST_MakePoint(lon, lat), 4326), ee, en, nn
FROM unnest(%s::text[], %s::float8[], %s::bigint[], %s::float8[], %s::float8[], %s::float8[], %s::float8[],
    %s::float8[]) AS given (id, h_s, ts, lat, lon, ee, en, nn)
ON CONFLICT (forecast_id, h_s) DO UPDATE SET ts = excluded.ts, position = excluded.position,
    cov_ee_m2 = excluded.cov_ee_m2, cov_en_m2 = excluded.cov_en_m2, cov_nn_m2 = excluded.cov_nn_m2
"""


class PostGis:
    """The store of `pathcast export postgis`. PostgreSQL 12 or newer, with PostGIS 3."""

    away: tuple[type[Exception], ...] = (psycopg.OperationalError, psycopg.InterfaceError, OSError)

    def __init__(self, conninfo: str, *, schema: str) -> None:
        """`conninfo` is a URL or a string of libpq; what it leaves out, such as the password, libpq takes from its own
        variables and files (PGPASSWORD, PGPASSFILE). Raises ValueError if it cannot be read."""
        try:
            found = psycopg.conninfo.conninfo_to_dict(conninfo)
        except psycopg.ProgrammingError as error:
            raise ValueError(f"--postgres cannot be read: {str(error).strip()}") from None
        self.name = (
            f"PostgreSQL at {found.get('host') or 'the local socket'}, database {found.get('dbname') or 'of the user'}"
        )
        self._conninfo = psycopg.conninfo.make_conninfo(
            conninfo, connect_timeout=CONNECT_S, application_name="pathcast sink", options="-c timezone=UTC"
        )
        self._schema = schema
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def open(self) -> None:
        try:
            connection = await self._connect()
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
                await self._create(connection)
        except psycopg.OperationalError as error:
            said = " ".join(str(error).split())
            kind = Refused if any(words in said for words in REFUSALS) else ConnectionError
            raise kind(f"{self.name} is not to be used ({said}): are --postgres and PGPASSWORD right?") from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise Refused(f"{self.name}: {_first_line(error)}: let its owner create what is missing") from error

    async def write(self, received: Sequence[Received[Forecast]]) -> int:
        by_id = {one.record.forecast_id: one for one in received}  # one statement may not write a row twice
        forecasts = [_forecast_row(one) for one in by_id.values()]
        positions = [row for one in by_id.values() for row in _position_rows(one.record)]
        connection = await self._connect()
        try:
            async with connection.transaction():
                await connection.execute(self._statement(FORECASTS), _columns(forecasts))
                if positions:
                    await connection.execute(self._statement(POSITIONS), _columns(positions))
                failpoints.reach("within_write")
        except self.away:
            await self.close()  # what comes next has to connect anew
            raise
        return len(forecasts)

    async def tidy(self, now_ms: int) -> int:
        return 0  # whoever wants to forget deletes from `forecasts`, and the positions go with it

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
        return self._connection

    async def _create(self, connection: psycopg.AsyncConnection[Any]) -> None:
        found = await (await connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'postgis'")).fetchone()
        if found is None:
            try:
                await connection.execute("CREATE EXTENSION postgis")
            except (psycopg.errors.UndefinedFile, psycopg.errors.FeatureNotSupported) as error:
                raise ValueError(f"{self.name} has no PostGIS to install ({_first_line(error)})") from error
        await connection.execute(self._statement("CREATE SCHEMA IF NOT EXISTS {schema}"))
        await connection.execute(self._statement(CREATE))

    def _statement(self, text: str) -> sql.Composed:
        return sql.SQL(text).format(schema=sql.Identifier(self._schema))


def _forecast_row(one: Received[Forecast]) -> tuple[Any, ...]:
    forecast, anchor = one.record, one.record.anchor
    head = (forecast.forecast_id, forecast.entity_id, anchor.ts, max(one.timestamp_ms, 0), anchor.lat, anchor.lon)
    return *head, *next_place(forecast), forecast.status, forecast.model.version


def _position_rows(forecast: Forecast) -> list[tuple[Any, ...]]:
    rows = {
        one.h_s: (
            forecast.forecast_id,
            one.h_s,
            forecast.anchor.ts + round(1000 * one.h_s),
            one.lat,
            one.lon,
            *one.cov_m2,
        )
        for one in forecast.horizons
    }
    return list(rows.values())


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
