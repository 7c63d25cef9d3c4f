"""When a line of a log that repeats is due."""

from __future__ import annotations

from stream.config.times import LINE_S, LOOK_S, Counted, Pacer


def lines(counts: list[int]) -> dict[float, Counted]:
    """The lines by their time in seconds, of a count that was so at each look."""
    pacer, found = Pacer(0, 0.0), {}
    for look, count in enumerate(counts, 1):
        if (line := pacer.take_line(count, look * LOOK_S)) is not None:
            found[look * LOOK_S] = line
    return found


def test_what_grows_all_the_time_has_a_line_a_minute() -> None:
    found = lines([100 * (look + 1) for look in range(30)])
    assert list(found) == [10.0, 70.0, 130.0, 190.0, 250.0]
    assert {line.per_s for line in found.values()} == {10.0}
    assert found[70.0] == Counted(100, 700, LINE_S)


def test_what_rests_has_none_and_begins_with_one() -> None:
    assert lines([0] * 100) == {}
    found = lines([0] * 50 + [200] + [200] * 50 + [600])
    assert list(found) == [510.0, 1020.0]
    assert [line.per_s for line in found.values()] == [20.0, 40.0], "the pause is no part of it"


def test_one_ping_now_and_then_has_no_more_than_a_line_a_minute() -> None:
    found = lines([look // 2 for look in range(60)])
    assert all(later - before >= LINE_S for before, later in zip(found, list(found)[1:], strict=False))
    assert sum(line.now - line.before for line in found.values()) >= 26, "none is left out but those of the last minute"
