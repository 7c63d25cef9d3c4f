"""`pathcast doctor`: is everything there that a worker needs, and what is to be done if not. It writes nothing, to no
server and no disk.

Facts are gathered at the edge, each kind within a time of its own, and what follows from them is decided by pure
functions:

    cli            options in, findings out
    examining      gathers all kinds of facts at once, and asks the decisions
    finding        Finding, and its levels
    kafka_facts    what the brokers say of topics, settings, rights, groups
    kafka_topics   what follows for topics
    kafka_groups   what follows for brokers, groups and the clock
    redis_facts    what Redis says
    redis_checks   what follows
    files_facts    weights, kernels, atlases, registry
    files_checks   what follows
"""
