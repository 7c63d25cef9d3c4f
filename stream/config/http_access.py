"""Reads the address at which a worker may be monitored, and the token that clients need. `stream.http.pages` is the
server.

The token comes from the environment, or from a file that it names, never from an option, because `ps` shows options to
everybody.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple

LOOPBACK: Final = "127.0.0.1"
TOKEN: Final = "PATHCAST_METRICS_TOKEN"
SERVE_TOKEN: Final = "PATHCAST_SERVE_TOKEN"  # of the HTTP API (stream.api)
MAP_TOKEN: Final = "PATHCAST_MAP_TOKEN"  # of the live map (stream.api.map)
MIN_TOKEN_CHARS: Final = 16  # anyone who reaches the port may guess, as often as the network allows


class Address(NamedTuple):
    host: str
    port: int  # 0: any free port

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parses `HOST:PORT`, `[IPV6]:PORT`, or `PORT` alone, which is on loopback. Raises ValueError."""
        match = re.fullmatch(r"(?:(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]\s/]+)):)?([0-9]{1,5})", text)
        if match is None or int(match[3]) > 65_535:
            raise ValueError(f"expected HOST:PORT, or PORT for loopback alone, got {text!r}")
        return cls(match[1] or match[2] or LOOPBACK, int(match[3]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def address_of(text: str, option: str) -> Address:
    """Parses what an option names. Raises BadParameter, which names the option."""
    import typer  # here, as most who serve pages have no command line

    try:
        return Address.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def check_free(address: Address, what: str = "serve metrics") -> None:
    """Checks that we can listen at the address, and closes it again, so that a worker finds out before anything else.

    Raises OSError, in one line, if we cannot.
    """
    try:
        socket.create_server(
            (address.host, address.port), family=socket.AF_INET6 if ":" in address.host else socket.AF_INET
        ).close()
    except OSError as error:
        raise unusable(address, error, what) from error


def unusable(address: Address, error: OSError, what: str = "serve metrics") -> OSError:
    """Returns the error in one line that names the address."""
    return OSError(f"cannot {what} at {address} ({error.strerror or error}): is the port taken?")


def token(environment: Mapping[str, str], name: str = TOKEN) -> str | None:
    """Returns the token of the variable `name` that a client must send; None if none is set.

    Raises:
        ValueError: it is set twice, or is too short. An empty file is no token, and must not allow access.
        OSError: the file cannot be read.
    """
    value, file = environment.get(name), environment.get(f"{name}_FILE")
    if value is not None and file is not None:
        raise ValueError(f"{name} and {name}_FILE are both set: which one?")
    if value is None and file is None:
        return None
    secret = (value if value is not None else Path(file or "").read_text()).strip()
    if len(secret) < MIN_TOKEN_CHARS or not secret.isascii() or not secret.isprintable():
        where = name if value is not None else file
        raise ValueError(f"the token of {where} is not {MIN_TOKEN_CHARS} or more printable ASCII characters")
    return secret
