"""What members of consumer groups have in common that share a topic's partitions, and commit offsets themselves.

    group_member   the life of a member: joins, takes over, polls, gives away, reports; each of the others stands on it
    continuity     whether the records that come follow those that were folded
    storing_member a member whose own store says where each partition goes on: the archive and the atlas
    running        a member as a command: signals, pages, and what a refusal of Kafka says
    pages          the metrics that each member has, and its probes
    options        the command-line options that their commands have in common

`stream.services.member` is the one that publishes in transactions, `stream.services.scores.member` the one that
publishes and then commits. The workers' partitions are `stream.delivery`, which knows nothing of this.
"""
