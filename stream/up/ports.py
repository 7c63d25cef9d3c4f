"""Chooses the addresses of `pathcast up`, and checks that no two parts, and nothing else, have one port."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import typer

from stream.config.http_access import LOOPBACK, Address, address_of, check_free
from stream.up.embedded import free_port
from stream.up.parts import Addresses, Part, addresses_from

METRICS: Final = "--metrics"
SERVE_PORT: Final = 9480  # of `pathcast serve`, too
MAP_PORT: Final = 8765  # of `pathcast map`, too
LOOK_S: Final = 0.25  # between two looks whether a part listens


class _Use(NamedTuple):
    """One address, and what for."""

    address: Address
    option: str
    what: str  # "cannot ... at ADDRESS"


def requested_addresses(
    metrics: str, serve: str | None, ingest: str, live_map: str | None, workers: int, *, without: Collection[str] = ()
) -> Addresses:
    """Returns the addresses that were asked for, and the usual ones; for the map that is the address of `serve`, unless
    one of the two is among the kinds of parts that are not to run. Raises BadParameter."""
    first = address_of(metrics, METRICS) if metrics else None
    try:
        last = addresses_from(first, workers + 1)[-1]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=METRICS) from None
    usual = SERVE_PORT
    if first is not None and last is not None and first.port <= SERVE_PORT <= last.port:
        usual = last.port + 1  # a machine with many cores
    api = Address(LOOPBACK, usual) if serve is None else _fixed(address_of(serve, "--serve"))
    at_map = None if live_map is None else _fixed(address_of(live_map, "--map"))
    if at_map is None and not {"serve", "map"}.isdisjoint(without):
        at_map = Address(LOOPBACK, MAP_PORT)
    return Addresses(first, api, _fixed(address_of(ingest, "--ingest")), at_map)


def find_maps(given: Sequence[str] | None) -> dict[str, str]:
    """Returns the maps of what `ingest http` is to take, by path: those asked for, or all presets. Raises
    BadParameter."""
    from stream.adapters.live import presets
    from stream.ingest.http import webhooks_of

    names = list(given) if given else presets.names()
    try:
        return dict(zip(webhooks_of(names), names, strict=True))
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error), param_hint="--ingest-map") from None


def check_senders(address: Address, maps: Iterable[str]) -> None:
    """Raises BadParameter if anybody on a network could send pings, ValueError if a secret is no use."""
    from stream.ingest.http import webhooks_of
    from stream.ingest.http.guards import check_closed, guards_of

    guards = guards_of(webhooks_of(maps))
    try:
        check_closed(guards, address)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--ingest") from None


async def wait_until_open(address: Address) -> None:
    """Returns once something listens there, however long that takes."""
    while True:
        try:
            _, writer = await asyncio.open_connection(address.host, address.port)
        except OSError:
            await asyncio.sleep(LOOK_S)
        else:
            writer.close()
            return


def check(parts: Sequence[Part]) -> None:
    """Raises ValueError if two parts are to listen at one port, OSError if something else does; both name the
    option."""
    taken: dict[int, _Use] = {}
    for use in _uses(parts):
        other = taken.setdefault(use.address.port, use)
        if other is not use and use.address.port:  # 0 is any free one
            raise ValueError(
                f"{use.option} and {other.option} both have port {use.address.port}: give one of them another"
            )
        check_free(use.address, use.what)


def _uses(parts: Sequence[Part]) -> Iterator[_Use]:
    for part in parts:
        if METRICS in part.command:
            address = part.command[part.command.index(METRICS) + 1]
            yield _Use(Address.parse(address), METRICS, "serve metrics")
        if part.listens is not None:
            option = f"--{part.kind}"
            yield _Use(part.listens, option, f"run {part.kind} ({option}, or --without {part.kind})")


def _fixed(address: Address) -> Address:
    """Returns the address with a port that is free now in place of 0, so that a part that is started again has it."""
    return address._replace(port=free_port()) if not address.port else address
