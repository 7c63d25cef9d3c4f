"""The header `traceparent` of W3C Trace Context, version 00.

    00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
    |  trace id, 16 bytes, not 0        span id, 8 bytes flags: bit 0 says that it is recorded

A header of a later version is read by its first four fields, as section 3.2.2.1 asks for. One that is damaged counts as
absent.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from stream.wire import Headers

TRACEPARENT: Final = "traceparent"
_FORM: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_NO_VERSION: Final = b"ff"


class Parent(NamedTuple):
    """A span of somebody, perhaps of another program."""

    trace_id: int
    span_id: int


def parse(headers: Headers) -> Parent | None:
    """Returns the span that the headers name as the parent; None if they name none, or in no form that we can read."""
    sent = next((value for name, value in headers if name.lower() == TRACEPARENT), None)
    found = None if sent is None else _FORM.fullmatch(sent)
    if found is None or found[1] == _NO_VERSION or (found[1] == b"00" and found[5] is not None):
        return None
    parent = Parent(int(found[2], 16), int(found[3], 16))
    return parent if parent.trace_id and parent.span_id else None


def replaced(headers: Headers, value: bytes) -> Headers:
    """Returns the headers with this `traceparent` in place of the one that they may have."""
    return (TRACEPARENT, value), *(one for one in headers if one[0].lower() != TRACEPARENT)


def render(parent: Parent) -> bytes:
    """Returns the value of the header that names this span as the parent, and as recorded."""
    return f"00-{parent.trace_id:032x}-{parent.span_id:016x}-01".encode()
