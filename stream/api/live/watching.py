"""Finds which of the newest forecasts one client has not been sent. It has no clock and no socket.

A client remembers up to which change it was told. So one that is slow gets the newest forecast of each entity when it
is able to take it, and nothing waits for it. Messages come in the order of the changes, so that the id of any message
says exactly what the client has.

    snapshot   forget what you have: all entities follow
    forecast   the newest forecast of an entity
    gone       the entity has left the box, or was not heard of for long
    live       all that was there is sent; what follows is new
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np

from stream.api.live.newest import Box, Departure, Newest

PAGE: Final = 64  # messages, some 60 KB: what one client may have in the server's memory and the kernel's at a time
# That are found by one look through the table, which takes 2 ms for 100,000 entities; 0.2 MB while they wait.
LOOK: Final = 16 * PAGE
_ID: Final = re.compile(r"([0-9a-f]{8})-([0-9]{1,18})")
Kind = Literal["snapshot", "forecast", "gone", "live"]


class Message(NamedTuple):
    """One message: its kind, its id (empty for a snapshot, after which nothing is known), and its JSON."""

    kind: Kind
    id: str
    body: bytes


class _News(NamedTuple):
    change: int
    row: int
    is_there: bool  # the entity is in the row and in the box
    entity_id: str


class Watch:
    """One client."""

    def __init__(
        self,
        newest: Newest,
        server: str,
        box: Box | None = None,
        entities: Sequence[str] = (),
        last_id: str | None = None,
    ) -> None:
        """Takes the id of this `server` process, eight hex digits, and the id of the last message that the client got,
        if it was connected before."""
        self._newest = newest
        self._server = server
        self._box = box
        self._entities = tuple(dict.fromkeys(entities))
        self._sent_change = 0  # the number of the last change that the client knows
        self._begun = 0  # the change at the begin of its snapshot: who left before is in none of its messages
        self._inside = np.zeros(0, np.bool_)  # by row: whether the client has its entity
        self._is_live = False
        self._ahead: deque[_News] = deque()  # found by the last look, and not sent yet
        self._looked = 0  # up to which change that look found everything
        sent = parse_change(server, last_id)
        self.is_resumed = sent is not None and newest.forgotten <= sent <= newest.change
        if self.is_resumed and sent is not None:
            self._sent_change = self._begun = sent
            self._inside = np.ones(newest.rows, np.bool_)  # as far as we know
        self._begins = not self.is_resumed

    @property
    def sent_change(self) -> int:
        return self._sent_change

    def next(self) -> list[Message]:
        """Returns the next messages, at most PAGE and two; none if there is nothing new."""
        newest = self._newest
        if max(self._sent_change, self._begun) < newest.forgotten and not self._begins:
            self._sent_change, self._begins, self._is_live = 0, True, False  # it slept for too long
            self._ahead.clear()
        messages = []
        if self._begins:
            self._begins, self._begun = False, newest.change
            self._inside = np.zeros(newest.rows, np.bool_)
            messages.append(Message("snapshot", "", b'{"type":"snapshot"}'))
        if self._sent_change < newest.change:
            messages += self._page()
        if self._sent_change >= newest.change and not self._is_live:
            self._is_live = True
            name = self._id(self._sent_change)
            messages.append(Message("live", name, b'{"type":"live","id":"%s"}' % name.encode()))
        return messages

    def _page(self) -> list[Message]:
        page: list[_News] = []
        while len(page) < PAGE and self._sent_change < self._newest.change:
            if not self._ahead:
                self._look()
            page += self._take(PAGE - len(page))
        return [self._message(one) for one in page]

    def _look(self) -> None:
        """Finds the next LOOK news, in the order of their changes."""
        newest = self._newest
        if len(self._inside) < newest.rows:
            self._inside = np.concatenate([self._inside, np.zeros(newest.rows - len(self._inside), np.bool_)])
        arrivals, self._looked = self._arrivals()
        news = sorted([*(one for one in self._departures() if one.change <= self._looked), *arrivals])
        if len(news) > LOOK:
            self._looked = news[LOOK - 1].change
        self._ahead.extend(news[:LOOK])

    def _take(self, most: int) -> list[_News]:
        """Takes the next news out of `_ahead`, as far as they still are any: who has changed since is found again."""
        page: list[_News] = []
        while self._ahead and len(page) < most:
            one = self._ahead.popleft()
            if one.is_there and self._newest.changes[one.row] != one.change:
                continue
            page.append(one)
            self._inside[one.row] = one.is_there
            self._sent_change = one.change
        if not self._ahead:
            self._sent_change = self._looked
        return page

    def _departures(self) -> list[_News]:
        """Returns who left the table."""
        return [
            _News(one.change, one.row, False, one.entity_id)
            for one in self._list_gone()
            if self._inside[one.row] and (not self._entities or one.entity_id in self._entities)
        ]

    def _list_gone(self) -> list[Departure]:
        return self._newest.list_gone_since(max(self._sent_change, self._begun))

    def _arrivals(self) -> tuple[list[_News], int]:
        """Returns the first LOOK of those that changed and are to be told of, or have left the box; and up to which
        change these are all."""
        newest = self._newest
        if self._entities:
            rows = np.array([row for one in self._entities if (row := newest.row(one)) is not None], np.int64)
            rows = rows[newest.changes[rows] > self._sent_change]
        else:
            rows = np.flatnonzero(newest.changes > self._sent_change)
        matches = newest.inside(self._box)[rows]
        had = self._inside[rows]
        if freed := {one.row for one in self._list_gone()}:
            had &= np.array(
                [row not in freed for row in rows.tolist()], np.bool_
            )  # the client had the entity that was there before
        some = matches | had
        rows, matches, looked = rows[some], matches[some], newest.change
        if len(rows) > LOOK:
            first = np.argpartition(newest.changes[rows], LOOK - 1)[:LOOK]
            rows, matches = rows[first], matches[first]
            looked = int(newest.changes[rows].max())
        columns = rows.tolist(), newest.changes[rows].tolist(), matches.tolist()
        return [
            _News(change, row, is_in, newest.name(row)) for row, change, is_in in zip(*columns, strict=True)
        ], looked

    def _message(self, one: _News) -> Message:
        name = self._id(one.change)
        if one.is_there:
            body = b'{"type":"forecast","id":"%s","forecast":%s}' % (name.encode(), self._newest.message(one.row))
            return Message("forecast", name, body)
        entity_id = msgspec.json.encode(one.entity_id)
        return Message("gone", name, b'{"type":"gone","id":"%s","entity_id":%s}' % (name.encode(), entity_id))

    def _id(self, change: int) -> str:
        return f"{self._server}-{change}"


def parse_change(server: str, last_id: str | None) -> int | None:
    """Returns the number of the change that this id names; None if it is none of this server's."""
    match = None if last_id is None else _ID.fullmatch(last_id)
    return int(match[2]) if match is not None and match[1] == server else None
