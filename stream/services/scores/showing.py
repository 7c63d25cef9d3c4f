"""Prints summaries of scores: a table for people, or JSON."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from stream.config.options import utc
from stream.services.scores.summaries import Interval, Paired, Row, compare_paired, first_scores, summaries
from stream.services.scores.sums import Labels
from stream.wire import Drift, Score
from stream.wire.escape import escaped


def print_scores(
    records: Sequence[Score | Drift], last: int | None, compare: tuple[str, str] | None, *, as_json: bool
) -> None:
    """Prints what the records say. Raises ValueError if there are no scores."""
    scores = _newest([one for one in records if isinstance(one, Score)], last)
    drifts = list({one.drift_id: one for one in records if isinstance(one, Drift)}.values())
    rows = summaries(scores)
    if not rows and not drifts:
        raise ValueError(
            "no forecast was scored in that time: is `beside scores` at work? Scores come 23 minutes after a ping"
        )
    against = None if compare is None else compare_paired(scores, *compare)
    if compare is not None and against is None:
        raise ValueError(f"no ping was answered by both versions, {compare[0]} and {compare[1]}")
    if as_json:
        shown = [{**labels._asdict(), **_plain(row)} for labels, row in rows.items()]
        both = None if against is None else _pair(against)
        typer.echo(msgspec.json.encode({"scores": shown, "drifts": drifts, "paired": both}))
        return
    console = Console()
    console.print(_table(rows))
    for drift in drifts:
        console.print(_drift_line(drift), markup=False, highlight=False, soft_wrap=True)
    if compare is not None and against is not None:
        console.print(_verdict(compare, against), markup=False, highlight=False, soft_wrap=True)


def _newest(scores: list[Score], last: int | None) -> list[Score]:
    """Returns the newest so many scores of each model version."""
    if last is None:
        return scores
    by_version: dict[str, list[Score]] = {}
    for one in sorted(first_scores(scores), key=lambda score: (score.anchor_ts, score.forecast_id)):
        by_version.setdefault(one.model.version, []).append(one)
    return [one for part in by_version.values() for one in part[-last:]]


def _table(rows: dict[Labels, Row]) -> Table:
    head = "model", "atlas", "horizon", "n", "unscored", "mean m", "median m", "damped m", "skill", "in 50", "in 90"
    table = Table(*head, box=None, pad_edge=False)
    for labels, row in rows.items():
        table.add_row(
            *(escaped(labels.model), labels.atlas, labels.horizon, f"{row.n:,}", f"{row.unscored:,}"),
            *(_span(row.mean_m, 0), f"{row.median_m:,.0f}", "-" if row.damped_m is None else f"{row.damped_m:,.0f}"),
            *("-" if row.skill is None else _span(row.skill, 2), _span(row.inside50, 2), _span(row.inside90, 2)),
        )
    return table


def _span(of: Interval, digits: int) -> str:
    value = f"{of.value:,.{digits}f}"
    return value if of.low is None else f"{value} ({of.low:,.{digits}f} to {of.high:,.{digits}f})"


def _drift_line(drift: Drift) -> str:
    change = f"{drift.before:.3f} ({drift.before_n} scores) to {drift.after:.3f} ({drift.after_n})"
    return escaped(f"drift of {drift.measured}, partition {drift.partition}, {utc(drift.anchor_ts)}: from {change}")


def _verdict(compare: tuple[str, str], found: Paired) -> str:
    word = "is better" if found.is_better else "is worse" if found.is_worse else "is not known to differ"
    pair = f"{found.n:,} forecasts of {found.entities} entities"
    return escaped(f"{compare[0]} {word}: log error over {compare[1]}'s {_span(found.log_ratio, 3)}, on {pair}")


def _pair(found: Paired) -> dict[str, object]:
    return {**found._asdict(), "log_ratio": found.log_ratio._asdict()}


def _plain(row: Row) -> dict[str, object]:
    return {name: one._asdict() if isinstance(one, Interval) else one for name, one in row._asdict().items()}
