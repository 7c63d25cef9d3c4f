"""Consumer groups that run beside the workers and make records of records, each exactly once.

    plan        what a service is to its member: `Plan`, and the `Unit` of each partition number
    member      one member of such a group: takeovers that fence, and transactions; and the service that it is
    stream_time how far a fleet has come, by its pings' own times
    latest      the newest forecast of each entity, in a compacted topic
    arrivals    when entities are at their destinations, and how likely in areas
    transit     trips of a schedule that are under way, and when they reach their stops
    avro        forecasts and gap fills as Avro, with a schema registry
    scores      forecasts against what then happened: it publishes, then commits
    archive     pings as Parquet files by day: its files say where it goes on

All members live as `stream.members` says. A service is a unit of state for each partition number (`plan.Unit`), and
offers options to `pathcast beside`. It imports no worker, and no worker waits for it.
"""
