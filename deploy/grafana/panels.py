"""What the dashboard shows: rows and panels, each with what it says and its queries. Knows nothing of Grafana's JSON.

In a query `@` stands for the instances that are chosen, as in `pathcast_ready{@}`, and `[@]` for Grafana's own window,
which is a few scrapes, or more if the picture is wide.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Query(NamedTuple):
    legend: str  # with labels as {{label}}
    expr: str


class Panel(NamedTuple):
    title: str
    says: str  # the panel's description: what it shows, and what is usual
    unit: str  # of Grafana's units
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    width: int = 8  # of 24
    stacked: bool = False
    red_from: float | None = None  # a value from which on it is red


class Row(NamedTuple):
    title: str
    panels: tuple[Panel, ...]
    is_open: bool = True


def quantiles(name: str, *which: str, by: str = "") -> tuple[Query, ...]:
    """Returns the quantiles of a histogram of all instances together."""
    per, shown = (f", {by}", f" {{{{{by}}}}}") if by else ("", "")
    return tuple(
        Query(
            f"p{100 * float(one):g}{shown}",
            f"histogram_quantile({one}, sum by (le{per}) (rate(pathcast_{name}_bucket{{@}}[@])))",
        )
        for one in which
    )


def count(title: str, says: str, expr: str, red_from: float | None = 1.0) -> Panel:
    """Returns one large number."""
    return Panel(title, says, "short", (Query(title, expr),), kind="stat", width=4, red_from=red_from)


def each_s(title: str, says: str, *queries: Query, unit: str = "cps", stacked: bool = False) -> Panel:
    return Panel(title, says, unit, queries, stacked=stacked)


HEALTH: Final = Row(
    "Health",
    (
        count("Processes that answer", "Of the job pathcast.", 'sum(up{job="pathcast", @})', red_from=None),
        count("Processes down", "PathcastDown tells the same.", 'sum(up{job="pathcast", @} == bool 0)'),
        count("Not ready", "GET /readyz of the process says why.", "sum(pathcast_ready{@} == bool 0)"),
        count("Records unaccounted for", "0, or something is wrong.", "sum(abs(pathcast_unaccounted_records{@}))"),
        count("Versions refused", "Weights or atlases that are due.", "sum(pathcast_versions_refused{@})"),
        count(
            "Alerts firing",
            "Of pathcast.rules.yaml.",
            'count(ALERTS{alertstate="firing", alertname=~"Pathcast.*"}) or vector(0)',
        ),
        Panel("Ready", "1 while /readyz says so.", "short", (Query("{{instance}}", "pathcast_ready{@}"),)),
        Panel(
            "Servers away",
            "1 while a worker does not reach Kafka or Redis, or ingest does not reach Kafka or its source.",
            "short",
            (
                Query("Kafka, {{instance}}", "pathcast_kafka_away{@}"),
                Query("Redis, {{instance}}", "pathcast_store_away{@}"),
                Query("Kafka, {{instance}} (ingest)", "pathcast_ingest_kafka_away{@}"),
                Query("source, {{instance}}", "pathcast_ingest_source_away{@}"),
            ),
        ),
        Panel(
            "Starts in half an hour",
            "Of each process; PathcastRestarts fires at the third.",
            "short",
            (Query("{{instance}}", 'changes(process_start_time_seconds{job="pathcast", @}[30m])'),),
        ),
        Panel(
            "Processor",
            "Cores that each process takes.",
            "short",
            (Query("{{instance}}", 'rate(process_cpu_seconds_total{job="pathcast", @}[@])'),),
        ),
        Panel(
            "Memory",
            "Resident, by process. A worker needs some 12 KB for each entity.",
            "bytes",
            (Query("{{instance}}", 'process_resident_memory_bytes{job="pathcast", @}'),),
        ),
        Panel(
            "What works here",
            "Program and weights of each worker.",
            "short",
            (Query("", "pathcast_worker_info{@}"),),
            kind="table",
        ),
    ),
)

TRAFFIC: Final = Row(
    "Traffic",
    (
        each_s(
            "Pings and answers",
            "Records taken from the pings topic, and forecasts of them; the difference is in the next panel.",
            Query("taken", "sum(rate(pathcast_records_in_total{@}[@]))"),
            Query("forecasts", 'sum(rate(pathcast_records_total{outcome=~"forecast|late", @}[@]))'),
            Query("gap fills", "sum(rate(pathcast_gap_fills_total{@}[@]))"),
        ),
        each_s(
            "What became of records",
            "Each record has one outcome.",
            Query("{{outcome}}", "sum by (outcome) (rate(pathcast_records_total{@}[@]))"),
            stacked=True,
        ),
        each_s(
            "Pings by worker",
            "Taken; partitions decide who gets how much.",
            Query("{{instance}}", "sum by (instance) (rate(pathcast_records_in_total{@}[@]))"),
            stacked=True,
        ),
        each_s(
            "Dead letters by code",
            "`pathcast dlq list` counts them, too.",
            Query("{{code}}", "sum by (code) (rate(pathcast_rejects_total{@}[@])) > 0"),
            stacked=True,
        ),
        each_s(
            "Fields left out",
            "Optional fields whose values cannot be; the pings are answered.",
            Query("{{field}}", "sum by (field) (rate(pathcast_fields_dropped_total{@}[@])) > 0"),
        ),
        Panel(
            "Records in a batch",
            "On average. It grows with the load, which keeps the cost of each record down.",
            "short",
            (
                Query(
                    "records",
                    "sum(rate(pathcast_batch_records_sum{@}[@])) / sum(rate(pathcast_batch_records_count{@}[@]))",
                ),
            ),
        ),
    ),
)

LATENCY: Final = Row(
    "Latency",
    (
        Panel(
            "From a ping to its forecast",
            "From the record's timestamp to its committed answer, an upper bound. The budget is 50 ms.",
            "s",
            quantiles("ping_to_forecast_seconds", "0.5", "0.99", "0.999"),
            red_from=0.25,
        ),
        Panel(
            "A batch in the engine", "Its look-ups in Redis included.", "s", quantiles("engine_seconds", "0.5", "0.99")
        ),
        Panel("A commit", "From a batch's answers to its offsets.", "s", quantiles("commit_seconds", "0.5", "0.99")),
    ),
)

DELIVERY: Final = Row(
    "Delivery",
    (
        Panel(
            "Lag",
            "Pings of each partition that wait for their forecast.",
            "short",
            (Query("{{partition}}", "max by (partition) (pathcast_lag_records{@})"),),
            red_from=10_000.0,
        ),
        Panel(
            "Lag of those who read forecasts",
            "Records that the scorer, the services and the HTTP API have not read yet.",
            "short",
            tuple(
                Query(name, f"sum(pathcast_{name}_lag_records{{@}})")
                for name in ("scores", "latest", "avro", "arrivals", "serve")
            ),
        ),
        Panel(
            "Since the last fetch",
            "Of each partition; Kafka counts as away after 10 s.",
            "s",
            (Query("{{partition}}", "max by (partition) (pathcast_fetch_age_seconds{@})"),),
            red_from=10.0,
        ),
        Panel(
            "In flight",
            "Records that are taken and not settled yet.",
            "short",
            (Query("{{place}}", "sum by (place) (pathcast_records_in_flight{@})"),),
        ),
        Panel(
            "Unaccounted for",
            "Records in, less those settled and in flight: 0, or a fault of pathcast.",
            "short",
            (Query("{{instance}}", "sum by (instance) (abs(pathcast_unaccounted_records{@}))"),),
        ),
        Panel(
            "Dead letters",
            "Their share of all records; PathcastDeadLetters fires above 5 %.",
            "percentunit",
            (
                Query(
                    "share",
                    'sum(rate(pathcast_records_total{outcome=~"rejected|quarantined", @}[@]))'
                    " / sum(rate(pathcast_records_in_total{@}[@]))",
                ),
            ),
            red_from=0.05,
        ),
        Panel(
            "Partitions",
            "Those that are taken over, and those that a worker has.",
            "short",
            (
                Query("ready", "sum(pathcast_partition_ready{@})"),
                Query("given out", "count(pathcast_partition_ready{@})"),
            ),
        ),
        Panel(
            "What should not happen",
            "In an hour: each has an alert of its own.",
            "short",
            (
                Query("batches failed", "sum(increase(pathcast_batches_failed_total{@}[1h]))"),
                Query("fenced", "sum(increase(pathcast_fenced_total{@}[1h]))"),
                Query("log shortened", "sum(increase(pathcast_log_shortened_total{@}[1h]))"),
                Query("lost to retention", "sum(increase(pathcast_retention_lost_records_total{@}[1h]))"),
            ),
        ),
        each_s(
            "Replayed by takeovers",
            "Records that are folded into states again, in silence.",
            Query("{{instance}}", "sum by (instance) (rate(pathcast_replayed_records_total{@}[@]))"),
        ),
    ),
)

STATE: Final = Row(
    "State",
    (
        Panel(
            "Entities",
            "In memory, with states in Redis, in quarantine, and taken for new as Redis cannot be read.",
            "short",
            (
                Query("in memory", "sum(pathcast_entities{@})"),
                Query("in Redis", "sum(pathcast_entities_stored{@})"),
                Query("in quarantine", "sum(pathcast_entities_in_quarantine{@})"),
                Query("unread", "sum(pathcast_entities_unread{@})"),
            ),
        ),
        Panel(
            "Records in no checkpoint",
            "Of the partition with most. At 200,000 a partition stops.",
            "short",
            (Query("{{instance}}", "max by (instance) (pathcast_checkpoint_behind_records{@})"),),
            red_from=100_000.0,
        ),
        Panel(
            "A checkpoint to Redis",
            "One partition's. It grows where Redis is slow.",
            "s",
            quantiles("checkpoint_seconds", "0.5", "0.99"),
        ),
        Panel(
            "Forecasts whose state was at hand",
            "The others' states were rebuilt from their windows (`cache: rebuilt`), as after new weights.",
            "percentunit",
            (
                Query(
                    "hit",
                    "1 - (sum(rate(pathcast_states_rebuilt_total{@}[@]))"
                    " + sum(rate(pathcast_states_moved_total{@}[@])))"
                    ' / sum(rate(pathcast_records_total{outcome="forecast", @}[@]))',
                ),
            ),
        ),
        each_s(
            "States made anew",
            "Rebuilt: refused, and made from the window. Moved: to the weights that are due. Anew: after a silence. The"
            " rest is lost: refused, evicted by Redis, or not read in time.",
            Query("rebuilt", "sum(rate(pathcast_states_rebuilt_total{@}[@]))"),
            Query("moved", "sum(rate(pathcast_states_moved_total{@}[@]))"),
            Query("anew", "sum(rate(pathcast_restarts_total{@}[@]))"),
            Query("damaged", "sum(rate(pathcast_states_damaged_total{@}[@]))"),
            Query("evicted", "sum(rate(pathcast_states_evicted_total{@}[@]))"),
            Query("not read in time", "sum(rate(pathcast_unknown_entities_answered_as_new_total{@}[@]))"),
        ),
        each_s(
            "Refused",
            "Checkpoints while Redis was away; pings of entities over the quota, in quarantine, or whose step raised.",
            Query("checkpoints", "sum(rate(pathcast_checkpoints_failed_total{@}[@]))"),
            Query("over the quota", "sum(rate(pathcast_over_quota_total{@}[@]))"),
            Query("in quarantine", "sum(rate(pathcast_shut_out_total{@}[@]))"),
            Query("step raised", "sum(rate(pathcast_steps_failed_total{@}[@]))"),
        ),
    ),
)

ROWS: Final = (HEALTH, TRAFFIC, LATENCY, DELIVERY, STATE)
