"""The rows about what runs beside the workers: the scorer, which knows how good forecasts are; the HTTP API; ingest;
and the services. `panels.py` says how queries are written.
"""

from __future__ import annotations

from typing import Final

from panels import Panel, Query, Row, each_s, quantiles

OF_SCORES: Final = "pathcast_scores_"


def per_scored(sums: str, over: str, by: str = "horizon") -> str:
    """Returns a mean of the last hour: scores come in bursts, and a few of them say little."""
    sums, over = (f"sum by ({by}) (increase({OF_SCORES}{one}_total{{@}}[1h]))" for one in (sums, over))
    return f"{sums} / {over}"


QUALITY: Final = Row(
    "Model quality (scores of the last hour)",
    (
        Panel(
            "Error and damped velocity's",
            "Mean distance from what then happened, by horizon in seconds, where both have an error.",
            "lengthm",
            (
                Query("{{horizon}}", per_scored("compared_error_metres", "compared")),
                Query("{{horizon}}, damped velocity", per_scored("damped_error_metres", "compared")),
            ),
        ),
        Panel(
            "Skill",
            "By how much the error is smaller than damped velocity's. Below 0 no model would be better.",
            "percentunit",
            (Query("{{horizon}}", "1 - " + per_scored("compared_error_metres", "damped_error_metres")),),
        ),
        Panel(
            "Coverage",
            "How often what happened lies in the 50 % and the 90 % region: as often as these say, if all is well.",
            "percentunit",
            (
                Query("90 %, {{horizon}}", per_scored("inside90", "scored")),
                Query("50 %, {{horizon}}", per_scored("inside50", "scored")),
            ),
        ),
        Panel(
            "Drifts found",
            "Lasting changes, in a day, by what was measured; PathcastScoresDrift tells each.",
            "short",
            (Query("{{measured}}", f"sum by (measured) (increase({OF_SCORES}drifts_total{{@}}[1d]))"),),
        ),
        Panel(
            "Skill by version",
            "Of all horizons together.",
            "percentunit",
            (Query("{{model}}", "1 - " + per_scored("compared_error_metres", "damped_error_metres", "model")),),
        ),
        each_s(
            "Forecasts scored, by version",
            "Of the next ping: what answers now, and since when.",
            Query("{{model}}", f'sum by (model) (rate({OF_SCORES}scored_total{{horizon="next", @}}[@]))'),
            stacked=True,
        ),
        Panel(
            "Weights in memory",
            "How many workers have them.",
            "short",
            (Query("{{name}} {{version}}", "count by (name, version) (pathcast_weights_info{@})"),),
        ),
        Panel(
            "Atlases that answer",
            "Partitions of each version; none without `--atlases`.",
            "short",
            (Query("{{version}}", "count by (version) (pathcast_atlas_info{@})"),),
        ),
        each_s(
            "Late versions",
            "Forecasts that should have asked other weights or another atlas, for which nobody could wait.",
            Query("atlas", "sum(rate(pathcast_atlas_late_forecasts_total{@}[@]))"),
            Query("weights", "sum(rate(pathcast_weights_late_forecasts_total{@}[@]))"),
            Query("partitions that wait", "sum(pathcast_atlas_waits{@})"),
        ),
        each_s(
            "Forecasts by status",
            "As scored: `warmup` and `stale` do not count in errors.",
            Query("{{status}}", f"sum by (status) (rate({OF_SCORES}forecasts_total{{@}}[@]))"),
            stacked=True,
        ),
        Panel(
            "Forecasts without a ping to compare with",
            "Their share, by horizon. It grows where vehicles fall silent.",
            "percentunit",
            (
                Query(
                    "{{horizon}}",
                    f"sum by (horizon) (increase({OF_SCORES}unscored_total{{@}}[1h])) / (sum by (horizon)"
                    f" (increase({OF_SCORES}scored_total{{@}}[1h])) + sum by (horizon)"
                    f" (increase({OF_SCORES}unscored_total{{@}}[1h])))",
                ),
            ),
        ),
        Panel(
            "The scorer",
            "Forecasts whose time has not come, and entities of which one waits.",
            "short",
            (
                Query("forecasts", f"sum({OF_SCORES}waiting_forecasts{{@}})"),
                Query("entities", f"sum({OF_SCORES}entities{{@}})"),
            ),
        ),
    ),
)

SERVE: Final = Row(
    "serve: the HTTP API",
    (
        each_s(
            "Requests",
            "By status; 0 is a client that has gone.",
            Query("{{status}}", "sum by (status) (rate(pathcast_serve_requests_total{@}[@]))"),
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Time to an answer", "Of all but streams.", "s", quantiles("serve_seconds", "0.5", "0.99", by="operation")
        ),
        Panel(
            "Streams and connections",
            "Those that are open.",
            "short",
            (
                Query("{{kind}}", "sum by (kind) (pathcast_serve_streams{@})"),
                Query("connections", "sum(pathcast_serve_connections{@})"),
            ),
        ),
        Panel(
            "Waits",
            "Questions and tracks that wait to be computed.",
            "short",
            (
                Query("questions", "sum(pathcast_serve_questions_waiting{@})"),
                Query("tracks", "sum(pathcast_serve_tracks_waiting{@})"),
            ),
        ),
        Panel(
            "Entities listed",
            "With a newest forecast in memory, and left out as the table was full, in an hour.",
            "short",
            (
                Query("listed", "sum(pathcast_serve_entities{@})"),
                Query("crowded out", "sum(increase(pathcast_serve_entities_crowded_out_total{@}[1h]))"),
            ),
        ),
        each_s(
            "Failures",
            "Reads of Redis and of the forecasts topic, records that are no forecasts, clients that took nothing.",
            Query("Redis", "sum(rate(pathcast_serve_store_failures_total{@}[@]))"),
            Query("Kafka", "sum(rate(pathcast_serve_kafka_failures_total{@}[@]))"),
            Query("no forecasts", "sum(rate(pathcast_serve_records_refused_total{@}[@]))"),
            Query("streams dropped", "sum(rate(pathcast_serve_streams_dropped_total{@}[@]))"),
        ),
    ),
    is_open=False,
)

INGEST: Final = Row(
    "ingest: pings of other systems",
    (
        each_s(
            "Pings",
            "That Kafka has acknowledged.",
            Query("{{adapter}}", "sum by (adapter) (rate(pathcast_ingest_pings_total{@}[@]))"),
            stacked=True,
        ),
        each_s(
            "Rejects and skips",
            "Dead letters by code, and what was neither a position nor an error.",
            Query("{{adapter}}: {{code}}", "sum by (adapter, code) (rate(pathcast_ingest_rejects_total{@}[@]))"),
            Query("{{adapter}}: {{why}}", "sum by (adapter, why) (rate(pathcast_ingest_skips_total{@}[@]))"),
        ),
        Panel(
            "Waiting, refused and lost",
            "Records without an acknowledgement yet; messages not taken, and lost, in an hour.",
            "short",
            (
                Query("waiting", "sum(pathcast_ingest_waiting_records{@})"),
                Query("not taken", "sum(increase(pathcast_ingest_unavailable_total{@}[1h]))"),
                Query("lost", "sum(increase(pathcast_ingest_lost_total{@}[1h]))"),
            ),
        ),
    ),
    is_open=False,
)


def _service(name: str, does: str) -> tuple[Panel, ...]:
    """Returns the panels that all services have."""
    per_s = "sum by (outcome) (rate(pathcast_{}_records_total{{@}}[@]))"
    return (
        each_s(
            f"{name}: records",
            f"{does} Read and published; failures are transactions that are tried again.",
            Query("read", f"sum(rate(pathcast_{name}_records_read_total{{@}}[@]))"),
            Query("published", f"sum(rate(pathcast_{name}_records_published_total{{@}}[@]))"),
            Query("failures", f"sum(rate(pathcast_{name}_failures_total{{@}}[@]))"),
        ),
        each_s(
            f"{name}: what became of them",
            "Each of its records, by outcome.",
            Query("{{outcome}}", per_s.format(name)),
            stacked=True,
        ),
        Panel(
            f"{name}: lag",
            "Records that are not read yet, by partition.",
            "short",
            (Query("{{partition}}", f"max by (partition) (pathcast_{name}_lag_records{{@}})"),),
            red_from=10_000.0,
        ),
    )


MAP: Final = Row(
    "map: the live map",
    (
        each_s(
            "Requests for the map",
            "By status; 0 is a browser that has gone.",
            Query("{{status}}", "sum by (status) (rate(pathcast_map_requests_total{@}[@]))"),
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Who looks, and at how many",
            "Open pages, connections, and entities in memory.",
            "short",
            (
                Query("pages", "sum(pathcast_map_streams{@})"),
                Query("connections", "sum(pathcast_map_connections{@})"),
                Query("entities", "sum(pathcast_map_entities{@})"),
            ),
        ),
        Panel(
            "The map behind the topics",
            "Records that are not read yet, and those of the last hour that could not be.",
            "short",
            (
                Query("lag", "sum(pathcast_map_lag_records{@})"),
                Query("unreadable", "sum(increase(pathcast_map_records_refused_total{@}[1h]))"),
                Query("crowded out", "sum(increase(pathcast_map_entities_crowded_out_total{@}[1h]))"),
            ),
            red_from=10_000.0,
        ),
    ),
    is_open=False,
)

SERVICES: Final = Row(
    "latest, avro, arrivals: records of records",
    (
        *_service("latest", "The newest forecast of each entity, in a compacted topic."),
        *_service("avro", "Forecasts and gap fills as Avro."),
        *_service("arrivals", "When entities arrive."),
    ),
    is_open=False,
)

ROUNDS: Final = Row(
    "guard, refresh: which weights serve",
    (
        Panel(
            "Since the last good round",
            "PathcastRoundsOverdue tells when it is longer than two rounds.",
            "s",
            tuple(
                Query(name, f"time() - max(pathcast_{name}_last_done_timestamp_seconds{{@}})")
                for name in ("guard", "refresh")
            ),
        ),
        Panel(
            "Rounds",
            "Of the last day, by outcome.",
            "short",
            tuple(
                Query(f"{name}: {{{{outcome}}}}", f"sum by (outcome) (increase(pathcast_{name}_rounds_total{{@}}[1d]))")
                for name in ("guard", "refresh")
            ),
        ),
        Panel(
            "Decisions",
            "Of the last day: what became of canaries and challengers, and rollbacks.",
            "short",
            tuple(
                Query(f"{name}: {{{{what}}}}", f"sum by (what) (increase(pathcast_{name}_decisions_total{{@}}[1d]))")
                for name in ("guard", "refresh")
            ),
        ),
    ),
    is_open=False,
)

ROWS: Final = (QUALITY, SERVE, MAP, INGEST, SERVICES, ROUNDS)
