"""What members of consumer groups have in common that share a topic's partitions, and commit offsets themselves.

    inputs         the settings of a member, and the topics that it reads
    group_member   the life of a member: joins, takes over, polls, gives away, reports; each of the others stands on it
    continuity     whether the records that come follow those that were folded
    storing_member a member whose own store says where each partition goes on: the archive and the atlas
    pages          the table of the metrics that each member has
    running        services of one process: they begin, live and end together, with their pages at one address
    command        the command of several services, `pathcast beside`

`stream.services.member` is the one that publishes in transactions, `stream.services.scores.member` the one that
publishes and then commits. The workers' partitions are `stream.delivery`, which knows nothing of this.
"""
