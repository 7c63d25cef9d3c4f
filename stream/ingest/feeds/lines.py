"""Cuts a stream of bytes into lines, and has a reader read them. It knows nothing of where they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from stream.adapters.live.parsed import Piece, Reader

# Of an NMEA sentence 82 characters, with a TAG block 160; of a TPV report of gpsd under 1,536.
MAX_LINE_BYTES: Final = 4096


class ReceivedBytes(NamedTuple):
    """One thing that came: a line or a datagram."""

    raw: bytes
    ms: int  # when, in ms since 1970 UTC
    via: str = ""  # from where, if there are several


Read = Callable[[ReceivedBytes], Iterable[Piece]]


def by_line(read: Reader) -> Read:
    """Returns the reader of a format whose messages are a line each."""
    return lambda came: [Piece(parsed, came.raw) for parsed in read(came.raw, came.ms)]


class Lines:
    """The lines of one stream, without their ends. Of one that is too long only the beginning is a line, and not a
    whole one: its reader will reject it."""

    def __init__(self, most_bytes: int = MAX_LINE_BYTES) -> None:
        self._most_bytes = most_bytes
        self._rest = b""
        self._skipping = False  # to the end of a line that was too long
        self.unended_bytes = 0  # of the line that has not ended

    def push(self, data: bytes) -> list[bytes]:
        """Returns the lines that the data ends, blank ones left out."""
        *whole, rest = (self._rest + data).split(b"\n")
        self.unended_bytes = len(rest) if whole else self.unended_bytes + len(data)
        if whole and self._skipping:
            self._skipping, whole = False, whole[1:]
        lines = [line[: self._most_bytes] for line in (line.strip() for line in whole) if line]
        if len(rest) > self._most_bytes and not self._skipping:
            lines.append(rest[: self._most_bytes])
            self._skipping = True
        self._rest = b"" if self._skipping else rest
        return lines

    def end(self) -> list[bytes]:
        """Returns the last line, which nothing ended."""
        rest, self._rest = self._rest.strip(), b""
        return [rest] if rest else []
