"""`traceparent` as W3C Trace Context has it, and what is none."""

from __future__ import annotations

import pytest

from stream.tracing.spans import make_context, parse_traceparent, render_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = int(TRACE, 16), int(SPAN, 16)


@pytest.mark.parametrize(
    "sent",
    [f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00", f"cc-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-what-comes"],
)
def test_a_sound_one_is_read(sent: str) -> None:
    parent = parse_traceparent(sent)
    assert parent is not None
    assert (parent.trace_id, parent.span_id) == GIVEN
    assert parent.is_remote


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
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-{'x' * 512}",
    ],
)
def test_a_damaged_one_counts_as_absent_and_fills_no_log(sent: str, caplog: pytest.LogCaptureFixture) -> None:
    assert parse_traceparent(sent) is None
    assert caplog.records == []


def test_what_is_written_is_read() -> None:
    header = render_traceparent(make_context(*GIVEN))
    assert header == f"00-{TRACE}-{SPAN}-01".encode()
    parent = parse_traceparent(header.decode())
    assert parent is not None
    assert (parent.trace_id, parent.span_id) == GIVEN
