"""Which peers run, in which order, and the rows of what they did at steady rates."""

from __future__ import annotations

from stream.bench.harness.launch import Failed
from stream.bench.harness.line import Load, Measured
from stream.bench.harness.report import UNKNOWN
from stream.bench.peers import steady
from stream.bench.peers.kinds import NO_FLINK, Options, Results, in_turn


def measured(rate: float, half_ms: float | None, *, missing: int = 0, worker_part: float = 0.5) -> Measured:
    came = [] if half_ms is None else [half_ms] * 98 + [2 * half_ms] * 2
    return Measured(rate, came, missing, 1.0, Load(worker_part, 0.2))


def test_peers_take_turns_and_one_that_fails_is_skipped_from_then_on_with_its_reason() -> None:
    asked: list[tuple[str, int]] = []

    def one(key: str, number: int) -> int:
        asked.append((key, number))
        if (key, number) == ("faust", 2):
            raise Failed("it ended")
        return number

    results = in_turn(Options(runs=3, only=("pathcast", "flink", "faust")), one)
    assert asked == [("pathcast", 1), ("faust", 1), ("pathcast", 2), ("faust", 2), ("pathcast", 3)]
    assert results.skipped == {"flink": NO_FLINK, "faust": "it ended"}
    assert results.found == {"pathcast": [1, 2, 3], "faust": [1]}
    assert results.whole == {"pathcast": [1, 2, 3]}


def test_a_row_has_medians_and_all_missing_answers_and_says_what_most_runs_kept_up_with() -> None:
    runs = [
        measured(100.0, 20.0, worker_part=0.25),
        measured(100.0, 40.0, worker_part=0.5, missing=3),
        measured(100.0, 30.0, worker_part=0.125),
    ]
    assert steady.row_of(runs) == (100.0, 25.0, 30.0, 60.0, 3, "yes")
    assert steady.row_of(runs[:2])[-1] == "no", "half of the runs are not most"


def test_a_peer_that_is_too_slow_has_a_row_also_if_nothing_of_it_came() -> None:
    assert steady.row_of([measured(1_000.0, 9_000.0)]) == (1_000.0, 50.0, 9_000.0, 18_000.0, 0, "no")
    assert steady.row_of([measured(1_000.0, None, missing=80)]) == (1_000.0, 50.0, UNKNOWN, UNKNOWN, 80, "no")
    some = [measured(1_000.0, None, missing=80), measured(1_000.0, 300.0, missing=9)]
    assert steady.row_of(some) == (1_000.0, 50.0, 300.0, 600.0, 89, "no")


def test_the_table_of_rates_has_a_row_for_each_peer_and_rate() -> None:
    runs = [[measured(100.0, 20.0), measured(1_000.0, half)] for half in (30.0, 50.0, 40.0)]
    results = Results(found={"faust": runs[:1], "pathcast": runs, "floor": runs[:1]}, skipped={"faust": "it ended"})
    table = steady.table_of(results)
    assert [len(row) for row in table.rows] == [len(table.columns)] * 4
    assert [(row[0], row[1], row[3]) for row in table.rows] == [
        ("pathcast worker", 100.0, 20.0),
        ("pathcast worker", 1_000.0, 40.0),
        ("constant velocity in ours", 100.0, 20.0),
        ("constant velocity in ours", 1_000.0, 30.0),
    ]
