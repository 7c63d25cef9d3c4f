"""The commands of `pathcast ingest` whose sources broadcast: feeds that are polled, and receivers.

They import nothing heavy at the top, because `--help` imports all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from stream.config.http_access import Address, address_of
from stream.config.options import with_common
from stream.config.security import secret
from stream.config.times import seconds
from stream.ingest.running import DEFAULTS, IngestOptions, run

if TYPE_CHECKING:
    from stream.adapters.live.parsed import Piece
    from stream.ingest.feeds.lines import ReceivedBytes
    from stream.ingest.feeds.polling import Feed

HEADERS: Final = "FEED_HEADERS"  # a secret: PATHCAST_FEED_HEADERS, or ..._FILE

Url = Annotated[str, typer.Option("--url", envvar="PATHCAST_FEED_URL", help="what to poll, http or https")]
Every = Annotated[str, typer.Option("--every", metavar="TIME", help="between two polls: 15s, 1m")]
Header = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        metavar="'NAME: VALUE'",
        help="of each request; may be repeated. A secret one: PATHCAST_FEED_HEADERS or ..._FILE, a line each",
    ),
]
Entity = Annotated[str, typer.Option("--entity", help="the name of what moves: the entity id of its pings")]
Hold = Annotated[
    int, typer.Option("--hold", min=1, help="lines or datagrams that wait in memory while Kafka is away, at most")
]
Tcp = Annotated[str, typer.Option("--tcp", metavar="HOST:PORT", help="connect there")]
ListenTcp = Annotated[
    str, typer.Option("--listen-tcp", metavar="HOST:PORT", help="let receivers connect here; PORT is on loopback")
]
ListenUdp = Annotated[
    str, typer.Option("--listen-udp", metavar="HOST:PORT", help="take datagrams here; PORT is on loopback")
]
DEFAULT_HOLD: Final = 100_000  # a GPS receiver's sentences of hours, an AIS receiver's of minutes; some 20 MB


@with_common
def adsb(
    url: Url,
    every: Every = "1s",
    header: Header = None,
    options: IngestOptions = DEFAULTS,
) -> None:
    """Poll aircraft.json of readsb or dump1090-fa.

    An aircraft is sent when its position was received anew. While Kafka is away nothing is polled.

    [bold]Examples[/]

      pathcast ingest adsb --url http://localhost/tar1090/data/aircraft.json
      pathcast ingest adsb --url http://piaware.local/skyaware/data/aircraft.json --every 2s
    """
    from stream.adapters.live.formats import adsb as reader
    from stream.ingest.feeds.polling import poll

    feed = _make_feed(url, every, header, reader.sightings, tolerance_ms=reader.TOLERANCE_MS)
    run(reader.SOURCE, options, partial(poll, feed))


@with_common
def ais(
    tcp: Tcp = "",
    listen_tcp: ListenTcp = "",
    listen_udp: ListenUdp = "",
    hold: Hold = DEFAULT_HOLD,
    options: IngestOptions = DEFAULTS,
) -> None:
    """Take ships from AIS receivers: NMEA sentences, over TCP or UDP.

    While Kafka is away TCP is not read. UDP cannot be held back: up to --hold datagrams wait, and what is lost beyond
    them is counted and logged.

    [bold]Examples[/]

      pathcast ingest ais --tcp receiver.local:10110
      pathcast ingest ais --listen-udp 0.0.0.0:10110
      pathcast ingest ais --listen-tcp 10110 --metrics 9480
    """
    from stream.adapters.live.formats.ais import SOURCE, Receiver

    given = {"--tcp": tcp, "--listen-tcp": listen_tcp, "--listen-udp": listen_udp}
    run(SOURCE, options, _transport(given, Receiver().hear, hold))


@with_common
def gpsd(
    entity: Entity,
    host: Annotated[str, typer.Option("--host", help="where gpsd runs")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65_535, help="of gpsd")] = 2947,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="PATH", help="one receiver of several; default: all are the entity"),
    ] = None,
    hold: Hold = DEFAULT_HOLD,
    options: IngestOptions = DEFAULTS,
) -> None:
    """Take the positions of the GPS receiver of a gpsd.

    gpsd lets go of a client that does not read: while Kafka is away up to --hold reports wait, and what is lost beyond
    them is counted and logged.

    [bold]Examples[/]

      pathcast ingest gpsd --entity van-7
      pathcast ingest gpsd --host boat.local --device /dev/ttyACM0 --entity boat
    """
    from stream.adapters.live.formats.gpsd import SOURCE, Receiver
    from stream.ingest.feeds.lines import by_line
    from stream.ingest.feeds.receivers import watch_gpsd

    watched = partial(watch_gpsd, Address(host, port), device, by_line(Receiver(_check_entity(entity)).read), most=hold)
    run(SOURCE, options, watched)


@with_common
def gtfs_rt(
    url: Url,
    every: Every = "15s",
    header: Header = None,
    options: IngestOptions = DEFAULTS,
) -> None:
    """Poll a GTFS-Realtime feed of vehicle positions.

    A vehicle is sent when its time in the feed has changed. Route and trip are kept. While Kafka is away nothing is
    polled.

    [bold]Examples[/]

      pathcast ingest gtfs-rt --url https://example.org/vehicle-positions.pb
      PATHCAST_FEED_HEADERS='X-Api-Key: ...' pathcast ingest gtfs-rt --url https://example.org/vehicles --every 30s
    """
    from stream.adapters.live.formats import gtfs_realtime
    from stream.ingest.feeds.polling import poll

    feed = _make_feed(url, every, header, gtfs_realtime.sightings)
    run(gtfs_realtime.SOURCE, options, partial(poll, feed))


@with_common
def nmea(
    serial: Annotated[str, typer.Option("--serial", metavar="PATH", help="read the port, such as /dev/ttyUSB0")] = "",
    tcp: Tcp = "",
    listen_tcp: ListenTcp = "",
    listen_udp: ListenUdp = "",
    entity: Annotated[
        list[str] | None,
        typer.Option(
            "--entity",
            metavar="[IP=]NAME",
            help="the entity id of what moves, as no sentence has one; with IP=, of what sends from there; may be "
            "repeated",
        ),
    ] = None,
    baud: Annotated[int, typer.Option("--baud", min=300, help="bits a second of the port")] = 9600,
    hold: Hold = DEFAULT_HOLD,
    options: IngestOptions = DEFAULTS,
) -> None:
    """Take the positions of GPS receivers: NMEA 0183, from a serial port, over TCP or over UDP.

    Whose a sentence is, --entity says, or else the source in its TAG block; of a ship's sentence (AIS) it is the MMSI.
    While Kafka is away TCP is not read; of a port or UDP up to --hold sentences wait, and what is lost beyond them is
    counted and logged. A port or a server that goes is connected again when it is back.

    [bold]Examples[/]

      pathcast ingest nmea --serial /dev/ttyACM0 --baud 115200 --entity van-7
      pathcast ingest nmea --tcp boat.local:10110 --entity boat
      pathcast ingest nmea --listen-tcp 0.0.0.0:10110 --entity 10.0.0.7=van-7 --entity 10.0.0.8=van-8
      pathcast ingest nmea --listen-udp 0.0.0.0:10110
    """
    from stream.adapters.live.formats.nmea import SOURCE, Receivers

    given = {"--serial": serial, "--tcp": tcp, "--listen-tcp": listen_tcp, "--listen-udp": listen_udp}
    names, otherwise = _names_of(entity or ())
    if serial and otherwise is None:
        raise typer.BadParameter("give the receiver at the port a name: --entity NAME", param_hint="--entity")
    if names and (serial or tcp):
        raise typer.BadParameter("IP= is for receivers that send here (--listen-...)", param_hint="--entity")
    run(SOURCE, options, _transport(given, Receivers(names, otherwise).hear, hold, baud))


def _transport(given: Mapping[str, str], hear: Callable[..., Piece], hold: int, baud: int = 0) -> Any:
    """Returns what brings lines to a reader in the one way that is given, by its option. Raises BadParameter."""
    from stream.ingest.feeds import receivers, sockets

    chosen = [(option, text) for option, text in given.items() if text]
    if len(chosen) != 1:
        raise typer.BadParameter(f"expected one of {', '.join(given)}, got {len(chosen)}")

    def read(came: ReceivedBytes) -> list[Piece]:
        return [hear(came.raw, came.ms, came.via)]

    ((option, text),) = chosen
    if option == "--serial":
        return partial(receivers.read_serial_port, text, baud, read, most=hold)
    at = address_of(text.removeprefix("tcp://"), option)
    transports = {
        "--tcp": partial(sockets.tcp_client, at, read),
        "--listen-tcp": partial(sockets.tcp_server, at, read),
        "--listen-udp": partial(sockets.udp, at, read, most=hold),
    }
    return transports[option]


def _names_of(given: Iterable[str]) -> tuple[dict[str, str], str | None]:
    """Returns the entity ids by the IP address of their receivers, and that of all others. Raises BadParameter."""
    names: dict[str, str] = {}
    for one in given:
        host, _, name = one.partition("=")
        try:
            host = str(ip_address(host.strip("[]")))
        except ValueError:  # the whole is a name
            host, name = "", one
        if host in names:
            raise typer.BadParameter(f"{host or 'a receiver'} has two names", param_hint="--entity")
        names[host] = _check_entity(name)
    otherwise = names.pop("", None)
    return names, otherwise


def _make_feed(
    url: str, every: str, header: list[str] | None, read: Callable[[bytes, int], Any], tolerance_ms: int = 0
) -> Feed:
    """Returns the feed that the options name. Raises BadParameter."""
    from stream.ingest.feeds.polling import Feed, parse_headers

    every_s = seconds(every, "--every")
    try:
        headers = parse_headers([*(header or ()), *(secret(HEADERS) or "").splitlines()])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--header") from None
    try:
        return Feed(url, every_s, read, headers, tolerance_ms)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from None


def _check_entity(given: str) -> str:
    """Returns the name of an entity. Raises BadParameter if no ping may have it."""
    from stream.wire import MIN_TS_MS, NO_TIME_MS, Ping, Reject, ping_rules

    found = ping_rules.check_ping(Ping(entity_id=given, ts=MIN_TS_MS, lat=1.0, lon=1.0), NO_TIME_MS)
    if isinstance(found, Reject):
        raise typer.BadParameter(found.message, param_hint="--entity")
    return given
