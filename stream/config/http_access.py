"""Where a worker may be watched, and by whom. Knows addresses and the token; serves nothing (`stream.serve.http_server`
does).

The token comes by the environment, or by a file that it names, never by an option: `ps` shows those to everybody.
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
MIN_TOKEN_CHARS: Final = 16  # anybody who reaches the port may guess, as often as the network lets them


class Address(NamedTuple):
    host: str
    port: int  # 0: any that is free

    @classmethod
    def parse(cls, text: str) -> Address:
        """`HOST:PORT`, `[IPV6]:PORT`, or `PORT` alone, which is on loopback. Raises ValueError."""
        found = re.fullmatch(r"(?:(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]\s/]+)):)?([0-9]{1,5})", text)
        if found is None or int(found[3]) > 65_535:
            raise ValueError(f"expected HOST:PORT, or PORT for loopback alone, got {text!r}")
        return cls(found[1] or found[2] or LOOPBACK, int(found[3]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def check_free(address: Address) -> None:
    """Whether the address can be listened at, which is given up again: so that a worker knows it before anything else.

    Raises OSError, in one line, if it cannot.
    """
    try:
        socket.create_server(
            (address.host, address.port), family=socket.AF_INET6 if ":" in address.host else socket.AF_INET
        ).close()
    except OSError as error:
        raise unusable(address, error) from error


def unusable(address: Address, error: OSError) -> OSError:
    """The error in one line that names the address."""
    return OSError(f"cannot serve metrics at {address} ({error.strerror or error}): is the port taken?")


def token(environment: Mapping[str, str]) -> str | None:
    """What a client must show; None if nothing was set.

    Raises:
        ValueError: it is set twice, or is too short. An empty file is no token, and must not open the door.
        OSError: the file cannot be read.
    """
    said, file = environment.get(TOKEN), environment.get(f"{TOKEN}_FILE")
    if said is not None and file is not None:
        raise ValueError(f"{TOKEN} and {TOKEN}_FILE are both set: which one?")
    if said is None and file is None:
        return None
    found = (said if said is not None else Path(file or "").read_text()).strip()
    if len(found) < MIN_TOKEN_CHARS or not found.isascii() or not found.isprintable():
        where = TOKEN if said is not None else file
        raise ValueError(f"the token of {where} is not {MIN_TOKEN_CHARS} or more printable ASCII characters")
    return found
