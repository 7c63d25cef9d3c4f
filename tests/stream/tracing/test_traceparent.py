"""`traceparent` as W3C Trace Context has it, and what is none."""

from __future__ import annotations

import pytest

from stream.tracing.traceparent import Parent, parse, render

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = Parent(int(TRACE, 16), int(SPAN, 16))


@pytest.mark.parametrize(
    "sent",
    [f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00", f"cc-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-what-comes"],
)
def test_a_sound_one_is_read(sent: str) -> None:
    assert parse((("other", b"x"), ("traceparent", sent.encode()))) == GIVEN


@pytest.mark.parametrize(
    "sent",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
    ],
)
def test_a_damaged_one_counts_as_absent(sent: str) -> None:
    assert parse((("traceparent", sent.encode()),)) is None


def test_what_is_written_is_read() -> None:
    assert parse((("traceparent", render(GIVEN)),)) == GIVEN
    assert render(GIVEN) == f"00-{TRACE}-{SPAN}-01".encode()
