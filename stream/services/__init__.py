"""Consumer groups that run beside the workers and make records of records, each exactly once.

    plan        what a service is to its member: `Plan`, and the `Unit` of each partition number
    member      one member of such a group: takeovers, folding, transactions, giving away
    running     a member as a command: signals, metrics and probes, what a refusal says
    pages       its metrics and probes
    options     what their commands have in common
    latest      the newest forecast of each entity, in a compacted topic
    arrivals    when entities are at their destinations, and how likely in areas
    avro        forecasts and gap fills as Avro, with a schema registry
    scores      forecasts against what then happened; it has a member of its own
    archive     pings as Parquet files by day; it has a member of its own, too

A service is a unit of state for each partition number (`plan.Unit`), and a command. It imports no worker, and no
worker waits for it.
"""
