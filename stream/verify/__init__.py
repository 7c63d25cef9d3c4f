"""`pathcast verify`: compares the published answers with a replay of the input.

It publishes and commits nothing, and takes over no partition.

    cli            the command
    run            reads the outputs, replays the input, and compares both
    offsets        the bounds of the logs, and the offsets to judge from
    log_history    whether a log was truncated, and what retention deleted
    published      digests and places of the published answers, by the record that each answers
    replay         one partition's input through the engine
    judging        verdicts on the published answers of a partition
    stored_states  verdicts on the stored states
    compare        which fields of two answers must be equal, and how near the others must be
    versions       which version of the atlas a forecast had to ask; `atlases` reads them
    weights        which weights a forecast had to name
    report         what was found, by partition and in total
"""
