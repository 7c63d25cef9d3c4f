"""Prints a report of the evaluation as a table, from plain data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from train.evaluation.rollout import MODEL

# A bootstrap over few entities gives too narrow intervals: of intervals that should contain the mean of entities 95
# times in 100, those of 4 do 80 times, of 10 90, of 20 92, of 40 93 (simulated, with normal entities).
FEW_ENTITIES: Final = 20


def print_report(report: dict[str, Any], model: str) -> None:
    """Prints a report, at most 80 columns wide."""
    if "bands" in report:
        _show_times(report, model)
    else:
        _show_metres(report, model)


def _show_times(report: dict[str, Any], model: str) -> None:
    bands = {"all": report["predictors"], **report["bands"]}
    table = _table(report, f"minutes; ± of the MAE: 95 %; {model}")
    table.add_column("true time", no_wrap=True)
    table.add_column("predictor", no_wrap=True)
    for name in ("MAE", "median", "MAPE", "80 %", "90 %", "width"):
        table.add_column(name, justify="right", no_wrap=True)
    for label, scores in bands.items():
        for number, (name, score) in enumerate(scores.items()):
            table.add_row(f"{label} ({score['n']:,})" if number == 0 else "", name, *_time_cells(score))
        table.add_section()
    console = Console()
    console.print(table)
    for line in (*_warn_of_few(bands, report), *_reliability_lines(report["geofences"])):
        console.print(line, highlight=False)


def _reliability_lines(geofences: dict[str, Any]) -> Iterator[str]:
    """Yields by horizon how often entities were inside circles, by the estimated chance."""
    for horizon, steps in geofences.items():
        shares = ", ".join(f"{100 * step['chance']:.0f}: {100 * step['inside']:.0f}" for step in steps)
        yield f"inside circles at {horizon} s, % told: % that were ({sum(step['n'] for step in steps):,}): {shares}"


def _time_cells(score: dict[str, Any]) -> Iterator[str]:
    yield f"{score['mae_s'] / 60:,.1f} ±{(score['mae_high_s'] - score['mae_low_s']) / 120:,.1f}"
    yield f"{score['median_ae_s'] / 60:,.1f}"
    held = (score.get(name) for name in ("mape", "coverage_80", "coverage_90"))
    yield from ("" if one is None else f"{100 * one:.1f} %" for one in held)
    yield f"{score['width_s'] / 60:,.1f}"


def _show_metres(report: dict[str, Any], model: str) -> None:
    gaps = "blocks" in report
    table = _table(report, f"metres; ± of the mean: 95 %; {model}")
    table.add_column("hidden" if gaps else "horizon", no_wrap=True)
    table.add_column("predictor", no_wrap=True)
    for name in ("mean", "median", "p90", "CRPS", "50 %", "90 %"):
        table.add_column(name, justify="right", no_wrap=True)
    blocks = report["blocks" if gaps else "horizons"]
    for key, block in blocks.items():
        label = _label_text(key)
        for name, score in block.items():
            if isinstance(score, dict) and "p90_m" in score:
                table.add_row(label, name, *_cells(score), style="bold" if name == "model" else None)
                label = ""
        table.add_section()
    console = Console()
    console.print(table)
    for line in _verdict_lines(report, blocks):
        console.print(line, highlight=False)
    if "learning" in report:
        console.print(_learning(report["learning"]))


def _branch_line(row: dict[str, Any]) -> str:
    metres = ", ".join(f"{_metres_text(row[name])} m" for name in ("forecast_m", "likeliest_m", "nearest_m"))
    of = f"{row['anchors'] / row['of']:.1%} of {row['of']:,} forecasts"
    return f"  {row['horizon_s']:g} s: {metres}; {of}, the likeliest said {row['share']:.0%} and was {row['went']:.0%}"


def _learning(curves: dict[str, Any]) -> Table:
    """Returns the table of the errors by hours of the fleet's history."""
    names = list(next(iter(curves.values()))[0]["mean_m"]) if next(iter(curves.values())) else []
    table = Table(title="mean error by hours of the fleet's history, m", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("horizon", "hours", "anchors", *names, f"90 % of {names[0]} hold" if names else ""):
        table.add_column(name, justify="left" if name in ("horizon", "hours") else "right", no_wrap=True)
    for key, rows in curves.items():
        for number, row in enumerate(rows):
            hours = f"{row['from_h']:,} to {row['to_h']:,}"
            means = [_metres_text(row["mean_m"][name]) for name in names]
            held = f"{row['inside_90']:.2f}"
            table.add_row(_label_text(key) if number == 0 else "", hours, f"{row['anchors']:,}", *means, held)
        table.add_section()
    return table


def _table(report: dict[str, Any], caption: str) -> Table:
    part = "all of it" if report["split"] == "all" else f"split {report['split']} ({report['split_fingerprint']})"
    table = Table(
        title=f"{report['file']}, {part}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        collapse_padding=True,
        pad_edge=False,
    )
    table.caption, table.caption_justify = f"{_counts_text(report)}\n{caption}", "left"
    return table


def _verdict_lines(report: dict[str, Any], blocks: dict[str, Any]) -> Iterator[str]:
    """Yields in words what the table shows: the model against the best baseline, where it is worse, and what was
    fitted.
    """
    judged = {_label_text(key): block for key, block in blocks.items() if "model_vs_best" in block}
    if judged:
        yield "mean error, against the best baseline (95 % interval):"
        yield from (f"  {label}: {_difference_text(block['model_vs_best'])}" for label, block in judged.items())
    if beside := {label: block for label, block in judged.items() if "atlas_vs_model" in block}:
        yield "mean error with the fleet's atlas, against the model without it (95 % interval):"
        yield from (f"  {label}: {_difference_text(block['atlas_vs_model'])}" for label, block in beside.items())
    if parted := report.get("branches"):
        yield "where passages part, the mean errors of the forecast, its likeliest branch and the nearest one:"
        yield from map(_branch_line, parted)
    if spreads := {label: block for label, block in judged.items() if "crps_vs_best" in block}:
        yield "error and spread in one, by CRPS, against baselines (less is better):"
        yield from (f"  {label}: {_crps_text(block)}" for label, block in spreads.items())
    if judged:
        yield "what 90 % regions hold (90 % is right; 95 % interval):"
        yield from (f"  {label}: {_coverage_text(block[MODEL])}" for label, block in judged.items())
    yield from _warn_of_few({_label_text(key): block for key, block in blocks.items()}, report)
    for name, one in (report.get("next_interval") or {}).items():
        factor, low, high = (f"{one[key]:.3f}" for key in ("factor", "low", "high"))
        holds = f"; its 90 % interval holds {100 * one['holds_90']:.1f} %" if "holds_90" in one else ""
        yield f"next ping's time, {name}: off by a factor of {factor} ({low} to {high}){holds}"
    if (read := report.get("next_from_record")) is not None:
        yield (
            f"next ping, as read from the record at its time: {_metres_text(read['mean_m'])} m "
            f"(median {_metres_text(read['median_m'])}), {_difference_text(read['model_vs_best'])}"
        )
    if "worse_than_best_baseline" in report:
        worse = report["worse_than_best_baseline"]
        what = "stratum of 1,000 anchors or more is worse than the best baseline"
        yield (f"mean error: no {what}" if not worse else "mean error, where a baseline is better, by stratum:")
        for row in worse:
            metres = f"model {_metres_text(row['model_m'])} m, {row['baseline']} {_metres_text(row['baseline_m'])} m"
            yield f"  {_label_text(row['horizon'])}, {row['stratum']}: {metres}"
    for name, values in (report.get("fitted") or {}).items():
        numbers = ", ".join(f"{key} {value:.3g}" for key, value in values.items() if key not in ("log_crps", "tries"))
        yield f"fitted {name}: {numbers}"
    if (known := report.get("fitted_on")) is not None:
        yield (
            f"fitted to split {known['split']} of {', '.join(known['files'])} ({known['entities']:,} entities, "
            f"{known['pings']:,} pings): {', '.join(known['baselines'])}; what the model saw is in its card"
        )
    if "fitted" in report and not report["fitted"]:
        yield "nothing fitted: not asked for, or no train split apart from what is judged"


def _difference_text(against: dict[str, Any]) -> str:
    """Returns in words how much nearer to the true position the model is than a baseline, or how much farther, and
    whether that may be chance.
    """
    difference_m, low_m, high_m, ratio = (against[key] for key in ("difference_m", "low_m", "high_m", "ratio"))
    by = f"{_metres_text(abs(difference_m))} m{'' if ratio is None else f' ({100 * abs(ratio - 1):.1f} %)'}"
    how = "farther off" if difference_m > 0 else "nearer"
    if low_m <= 0 <= high_m:
        between = f"{_metres_text(abs(low_m))} nearer to {_metres_text(high_m)} farther"
        return f"level with {against['baseline']}: {by} {how} ({between})"
    near, far = sorted((abs(low_m), abs(high_m)))
    return f"{by} {how} than {against['baseline']} ({_metres_text(near)} to {_metres_text(far)} {how.split()[0]})"


def _crps_text(block: dict[str, Any]) -> str:
    kalman, best = block["crps_vs_kalman"], block["crps_vs_best"]
    said = f"{_ratio_text(best['ratio'])} than {best['baseline']} (the best)"
    if kalman["reference"] == best["baseline"]:
        return said
    return f"{said}, {_ratio_text(kalman['ratio'])} than {kalman['reference']}"


def _ratio_text(ratio: float) -> str:
    return f"{100 * abs(ratio - 1):.1f} % {'more' if ratio > 1 else 'less'}"


def _coverage_text(score: dict[str, Any]) -> str:
    holds, low, high = (100 * score[f"coverage_90{end}"] for end in ("", "_low", "_high"))
    return f"{holds:.1f} % ({low:.1f} to {high:.1f}; {score['entities']:,} entities)"


def _warn_of_few(blocks: dict[str, Any], report: dict[str, Any]) -> Iterator[str]:
    """Warns where not all entities are judged, and where intervals come from so few that they are too narrow."""
    entities, among = report["entities"], report["entities_in_split"]
    if entities < among:
        yield f"--max-anchors left {entities:,} of {among:,} entities; on all of them, ratios may be others"
    for label, block in blocks.items():
        entities = max(score["entities"] for score in block.values() if isinstance(score, dict) and "entities" in score)
        if entities < FEW_ENTITIES:
            of = "1 entity" if entities == 1 else f"{entities} entities"
            yield f"{label}: {of}; intervals of fewer than {FEW_ENTITIES} say little"


def _label_text(key: str) -> str:
    return f"{key} s" if key[0].isdigit() else key


def _cells(score: dict[str, Any]) -> Iterator[str]:
    yield f"{_metres_text(score['mean_m'])} ±{_metres_text((score['mean_high_m'] - score['mean_low_m']) / 2)}"
    yield from (_metres_text(score[name]) for name in ("median_m", "p90_m", "crps_m"))
    yield from ("" if score[name] is None else f"{100 * score[name]:.1f}" for name in ("coverage_50", "coverage_90"))


def _metres_text(value: float) -> str:
    if 0 < value < 0.05:
        return f"{value:.1g}"
    return f"{value:,.1f}" if value < 99.95 else f"{value:,.0f}"


def _counts_text(report: dict[str, Any]) -> str:
    """Returns in words what was evaluated, and whether it is a sample."""
    every = report["every_nth_track"]
    tracks = f"{report['tracks']:,} tracks"
    if every > 1:
        tracks += f" (one in {every:,} of {report['tracks_in_split']:,})"
    entities, among = report["entities"], report["entities_in_split"]
    counts = [f"{entities:,} entities" if entities == among else f"{entities:,} of {among:,} entities", tracks]
    if report["copies_left_out"]:
        counts.append(f"{report['copies_left_out']:,} left out as copies of others")
    counts += [f"{report[name]:,} {name}" for name in ("anchors", "trips", "fallbacks") if report.get(name)]
    return ", ".join(counts)
