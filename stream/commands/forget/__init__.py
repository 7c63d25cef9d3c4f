"""`pathcast forget ENTITY`: removes an entity from every place that can be changed, and says of the others when it is
gone from them.

    cli        the command
    run        the order of the steps
    pings      the record by which workers hear of it (`stream.wire.record`), in every partition of the pings topic
    states     Redis: whether the workers have removed its states
    latest     its newest forecast in the compacted topic, and whether its writer has come to it
    archived   the archive of pings
    remaining  what nobody can remove singly, and until when it stays
    findings   what was found and done in a place, as a row

It changes no state itself. A worker that has the entity in memory would write it again; so workers are told, by the log
that they all follow, and this command waits until they have done it. deploy/PRIVACY.md is the page for people.
"""
