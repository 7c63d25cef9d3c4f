"""`pathcast forget ENTITY`: removes an entity from every place that can be changed, and says of the others when it is
gone from them.

    cli        the command
    run        the order of the steps, and the archive of pings
    states     Redis: whether the workers have removed its states
    topics     the record by which workers hear of it (`stream.wire.record`), and its newest forecast
    findings   a row for each place: what was found and done, or what stays and until when

It changes no state itself. A worker that has the entity in memory would write it again; so workers are told, by the log
that they all follow, and this command waits until they have done it. deploy/PRIVACY.md is the page for people.
"""
