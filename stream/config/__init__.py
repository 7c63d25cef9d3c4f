"""The configuration of a worker and the commands: settings, secured connections, secrets, fail points.

Start with `settings.Settings`, which has every option of a worker with its default.

    settings      Settings: what a worker does, and how much of it
    security      KafkaSecurity, RedisSecurity: protocols, users, certificates, and what a refusal means
    options       the command-line options that several commands share
    http_access   the address of the metrics page, and the token that it requires
    times         spans of time as people write them
    environment   which PATHCAST_ variables exist, and which of them a running `pathcast up` knows
    home          the directory of `pathcast up`
    failpoints    places at which a test may kill a worker
"""
