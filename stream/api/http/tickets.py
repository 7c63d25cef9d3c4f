"""Tickets for what cannot send the token: a browser's EventSource and WebSocket take an address, and no header.

A ticket opens one stream, once, within a short time: an address may be kept in histories and logs of proxies. They are
in memory, so only the process that gave one takes it. Time is an argument.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from hashlib import sha256
from typing import Final

VALID_S: Final = 30.0  # from the answer to the request that uses it: a page does both at once
MOST: Final = 10_000  # that are not used yet, of 150 bytes each; beyond, the oldest are forgotten


class Tickets:
    """Holds the tickets that were given and not used yet."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._until_s: OrderedDict[bytes, float] = OrderedDict()  # by hash, so that how long a look takes says nothing

    def give(self, now_s: float) -> str:
        """Returns a new ticket: 43 characters that a URL takes."""
        ticket = secrets.token_urlsafe(32)
        self._until_s[_hash(ticket)] = now_s + VALID_S
        while len(self._until_s) > self._most:
            self._until_s.popitem(last=False)
        return ticket

    def take(self, ticket: str, now_s: float) -> bool:
        """Returns whether the ticket is good. It is not, from then on."""
        return now_s <= self._until_s.pop(_hash(ticket), float("-inf"))

    def __len__(self) -> int:
        return len(self._until_s)


def _hash(ticket: str) -> bytes:
    return sha256(ticket.encode(errors="surrogateescape")).digest()
